"""The one policy for models and tokenizers that differ in their number of ids.

A table of embeddings may have more rows than its tokenizer has ids (Qwen, Pythia, T5:
rounded up), and a vocabulary may have holes: an id without a token is never drawn, and
in a text that is decoded it stands for nothing. A table may have fewer rows, when the
ids behind them are special tokens that no text becomes (Gemma 3's <image_soft_token>);
text that could become an id without a row is refused. `lm.load`, convert, evaluate,
training from a store and generate all call these functions.
"""

import numpy as np

from lm.errors import Mistake

FRONT = "prompt"  # of Tokenizer.decoding: the ids of a soft prompt, see prompted.py


def check(tokenizer, vocab: int) -> None:
  """Raises Mistake when text can become ids that a table of `vocab` rows lacks."""
  special = set(tokenizer.special)
  behind = (tokenizer.text_of_id(id) for id in range(vocab, tokenizer.size))
  if any(text and text not in special for text in behind):
    raise Mistake(
      f"the model has {vocab} tokens, the tokenizer {tokenizer.size}; use the "
      "tokenizer that it was trained with"
    )


def drawable(tokenizer, vocab: int) -> np.ndarray:
  """Returns a boolean for each of `vocab` rows: True where the id has a token.

  Tokens that the model's files never want to be written are left out too: starts.py.
  """
  is_token_V = np.zeros(vocab, bool)
  is_token_V[: tokenizer.size] = tokenizer.is_token_V[:vocab]
  is_token_V[[id for id in tokenizer.decoding.get("never", ()) if id < vocab]] = False
  return is_token_V


def front(tokenizer) -> list[int]:
  """Returns the ids of a soft prompt, which begin each text; [] without one."""
  return list(tokenizer.decoding.get(FRONT, ())) if tokenizer else []


def refuse_prompt(tokenizer, path) -> None:
  """Raises Mistake for the model at a path if it is one with a soft prompt."""
  if length := len(front(tokenizer)):
    raise Mistake(
      f"{path} has a soft prompt of {length} tokens, which is no parameter of an "
      "ordinary model; take the model that it adapts, or write the prompt: convert "
      "--family=peft"
    )
