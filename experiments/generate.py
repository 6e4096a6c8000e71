"""Continues a prompt, printing the text as it is generated; a chat model answers it.

./launch.sh generate --workdir=runs/shakespeare --prompt="To be, or"
./launch.sh generate --workdir=runs/shakespeare --prompt="To be" --n=3 --top_p=0.9
./launch.sh generate --workdir=runs/shakespeare --prompt="To be" --beam=4
"""

import sys
import time

from absl import flags

from experiments import process
from lm import stores
from lm.errors import Mistake
from lm.generate import chat, prompts, stream

DEFAULT_TOKENS = 200  # at most, without --max_tokens

_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_PROMPT = process.text_flag("prompt", "", "where to start; empty: a new document")
_CHAT = flags.DEFINE_boolean(
  "chat",
  None,
  "whether --prompt is a message of the user, to be answered; by default if the model "
  "has a chat template",
)
_MAX_TOKENS = flags.DEFINE_integer(
  "max_tokens",
  None,
  f"tokens at most; by default what the context holds, up to {DEFAULT_TOKENS}",
)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the likeliest token")
_TOP_K = flags.DEFINE_integer("top_k", 0, "only the k likeliest tokens; 0: all")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "only the likeliest that make up this share")
_N = flags.DEFINE_integer("n", 1, "how many texts")
_SEED = flags.DEFINE_integer(
  "seed",
  0,
  "another number gives another text",
  lower_bound=0,
  upper_bound=2**32 - 1,  # jax would take the next one for 0
)
_BEAM = flags.DEFINE_integer("beam", 0, "beams to search with instead of sampling")


def main():
  sampling = {f.name: f.value for f in (_TEMPERATURE, _TOP_K, _TOP_P, _SEED)}
  if _BEAM.value and any(f.present for f in (_TEMPERATURE, _TOP_K, _TOP_P, _SEED)):
    raise Mistake(
      "--beam searches for the likeliest text and draws nothing; leave out "
      "--temperature, --top_k, --top_p and --seed, or leave out --beam"
    )
  model, params, tokenizer = stores.load(_WORKDIR.value)
  if tokenizer is None:
    raise Mistake(f"{_WORKDIR.value} has no tokenizer; text needs one")
  heading, ids = read_prompt(tokenizer)
  max_tokens, context = _MAX_TOKENS.value, model.config.context
  if max_tokens is None:
    room = context - len(ids) if context else DEFAULT_TOKENS
    max_tokens = max(1, min(DEFAULT_TOKENS, room))
  options = dict(max_tokens=max_tokens, n=_N.value)
  start_s = time.perf_counter()
  if _BEAM.value:
    options["beams"] = _BEAM.value
    pieces = stream.search(model, params, tokenizer, ids, **options)
  else:
    pieces = stream.stream(model, params, tokenizer, ids, **options, **sampling)
  sys.stdout.reconfigure(errors="replace")  # a terminal may lack characters
  count = show(pieces, heading, _N.value)
  rate = count / (time.perf_counter() - start_s)
  print(f"{count} tokens, {rate:.1f} a second with compiling", file=sys.stderr)


def read_prompt(tokenizer) -> tuple:
  """Returns (the text to print before the model's, the ids of the prompt)."""
  text, is_chat = _PROMPT.value, _CHAT.value
  if is_chat is None:
    is_chat = bool(text) and tokenizer.chat_template is not None
  if is_chat:
    return "", chat.encode(tokenizer, [{"role": "user", "content": text}])
  return text, prompts.encode(tokenizer, text)[0]


def show(pieces, heading: str, n: int) -> int:
  """Prints one text as it comes, several when whole; returns the number of tokens."""
  texts, count = [heading] * n, 0
  if n == 1:
    print(heading, end="", flush=True)
  for piece in pieces:
    count += len(piece.ids)
    texts[piece.index] += piece.text
    if n == 1:
      print(piece.text, end="\n" if piece.finish_reason else "", flush=True)
    elif piece.finish_reason:
      print(f"--- {piece.index + 1} of {n}\n{texts[piece.index]}", flush=True)
  return count


if __name__ == "__main__":
  process.run(main, required=("workdir",))
