"""Goes on from a prompt, as text that streams; a chat model answers it.

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
from lm.generate import chat, text

MOST = 200  # tokens, unless asked for

_WORKDIR = process.workdir_flag(
  "a run's folder, a folder of Hugging Face's, or a .gguf file"
)
_PROMPT = flags.DEFINE_string("prompt", "", "where to start; empty: a new document")
_CHAT = flags.DEFINE_boolean(
  "chat",
  None,
  "whether --prompt is a user's message, to be answered; left out: if the model has a "
  "chat template",
)
_MAX_TOKENS = flags.DEFINE_integer(
  "max_tokens", None, f"tokens at most; left out: what the context holds, up to {MOST}"
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
_BEAM = flags.DEFINE_integer("beam", 0, "beams to search with instead of drawing")


def main():
  if _BEAM.value and any(f.present for f in (_TEMPERATURE, _TOP_K, _TOP_P, _SEED)):
    raise Mistake(
      "--beam searches for the likeliest text and draws nothing; leave out "
      "--temperature, --top_k, --top_p and --seed, or leave out --beam"
    )
  model, params, tokenizer = stores.load(_WORKDIR.value)
  if tokenizer is None:
    raise Mistake(f"{_WORKDIR.value} has no tokenizer; text needs one")
  shown, ids = prompt(tokenizer)
  room = model.config.context - len(ids) if model.config.context else MOST
  max_tokens = _MAX_TOKENS.value
  if max_tokens is None:
    max_tokens = max(1, min(MOST, room))
  ask = dict(max_tokens=max_tokens, n=_N.value)
  start_s = time.perf_counter()
  if _BEAM.value:
    pieces = text.search(model, params, tokenizer, ids, beams=_BEAM.value, **ask)
  else:
    pieces = text.stream(
      model,
      params,
      tokenizer,
      ids,
      temperature=_TEMPERATURE.value,
      top_k=_TOP_K.value,
      top_p=_TOP_P.value,
      seed=_SEED.value,
      **ask,
    )
  sys.stdout.reconfigure(errors="replace")  # a terminal may not know every character
  count = show(pieces, shown, _N.value)
  rate = count / (time.perf_counter() - start_s)
  print(f"{count} tokens, {rate:.1f} a second with compiling", file=sys.stderr)


def prompt(tokenizer) -> tuple[str, list]:
  """What is shown in front of the model's text, and the ids that it goes on from."""
  said, chatting = _PROMPT.value, _CHAT.value
  if chatting is None:
    chatting = bool(said) and tokenizer.chat_template is not None
  if chatting:
    return "", chat.encode(tokenizer, [{"role": "user", "content": said}])
  return said, text.encode(tokenizer, said)[0]


def show(pieces, prompt: str, n: int) -> int:
  """Prints the pieces; one text as it comes, several each when it is whole."""
  texts, count = [prompt] * n, 0
  if n == 1:
    print(prompt, end="", flush=True)
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
