"""Continues a prompt, printing the text as it is generated; a chat model answers it.

./launch.sh generate --workdir=runs/shakespeare --prompt="To be, or"
./launch.sh generate --workdir=runs/shakespeare --prompt="To be" --n=3 --top_p=0.9
./launch.sh generate --workdir=runs/shakespeare --prompt="To be" --beam=4
./launch.sh generate --workdir=SmolLM2-135M-Instruct

Without a prompt, every line of the input is one; a chat model keeps the conversation.
BERT fills "[MASK]" in the prompt, T5 "<extra_id_0>"; a model that translates reads the
languages of the prompt and of its text, as in "en_XX fr_XX Good morning.".
"""

import functools
import json
import sys
import time

from absl import flags

from experiments import process
from lm import stores, tasks
from lm.data import tables
from lm.data.tokenizers.files import read_text
from lm.disk import paths
from lm.errors import Mistake
from lm.generate import chat, fill, prompts, stream
from lm.generate import score as scoring
from lm.log.progress import counted

DEFAULT_TOKENS = 200  # at most, without --max_tokens

_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_STEP = flags.DEFINE_integer(
  "step", None, "a saved step of a run; by default the newest"
)
_PROMPT = process.text_flag("prompt", None, "where to start; empty: a new document")
_PROMPT_FILE = flags.DEFINE_string(
  "prompt_file", None, "a text file to take for --prompt, without its last line break"
)
_SCORE = flags.DEFINE_string(
  "score",
  None,
  "a file with a text a line; .jsonl: objects with a text, or a context and a "
  "continuation; prints their log-probabilities, and writes no text",
)
_CHAT = flags.DEFINE_boolean(
  "chat",
  None,
  "whether a prompt is a message of the user, to be answered; by default if the model "
  "has a chat template",
)
_MAX_TOKENS = flags.DEFINE_integer(
  "max_tokens",
  None,
  f"tokens at most; by default what the context holds, up to {DEFAULT_TOKENS}",
)
_STOP = process.text_flag("stop", [], "ends the text before it; may be repeated")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the likeliest token")
_TOP_K = flags.DEFINE_integer("top_k", 0, "only the k likeliest tokens; 0: all")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "only the likeliest that make up this share")
_MIN_P = flags.DEFINE_float(
  "min_p", 0.0, "only tokens at least this likely, relative to the likeliest"
)
_PENALTY = flags.DEFINE_float(
  "repetition_penalty", 1.0, "above 1 makes tokens of the prompt and text less likely"
)
_N = flags.DEFINE_integer("n", 1, "how many texts")
_SEED = flags.DEFINE_integer(
  "seed",
  0,
  "another number gives another text",
  lower_bound=0,
  upper_bound=2**32 - 1,  # jax would take the next one for 0
)
_BEAM = flags.DEFINE_integer(
  "beam", 0, "beams to search with instead of sampling; 0: none", lower_bound=0
)
_FORMAT = flags.DEFINE_enum(
  "format", "text", ["text", "json"], "json: an object a line for each text"
)

_SAMPLING = (_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P, _PENALTY, _SEED, _STOP)


def main():
  settings = [f"--{flag.name}" for flag in _SAMPLING if flag.present]
  if _BEAM.value and settings:
    raise Mistake(
      "--beam searches for the likeliest text and draws nothing; leave out "
      f"{', '.join(settings)}, or leave out --beam"
    )
  prompt = read_prompt()
  store = stores.open(_WORKDIR.value)
  model, params, tokenizer = stores.load(_WORKDIR.value, step=_STEP.value)
  if tokenizer is None:
    raise Mistake(f"{_WORKDIR.value} has no tokenizer; text needs one")
  sys.stdout.reconfigure(errors="replace")  # a terminal may lack characters
  if _SCORE.value is not None:
    return show_scores(model, params, tokenizer, paths.local(_SCORE.value))
  if task := tasks.of_model(store, model):
    return show_answers(task, model, params, tokenizer, prompt)
  if prompt is not None and fill.has_masks(tokenizer, prompt):
    return show_masks(fill.masks(model, params, tokenizer, prompt))
  messages = []
  for text in read_lines() if prompt is None else [prompt]:
    messages.append({"role": "user", "content": text})
    texts = answer(model, params, tokenizer, messages)
    messages.append({"role": "assistant", "content": texts[0]})


def read_prompt() -> str | None:
  """Returns the prompt of the flags, None when there is none."""
  if _PROMPT_FILE.value is None:
    return _PROMPT.value
  if _PROMPT.value is not None:
    raise Mistake("--prompt and --prompt_file are both given; leave out one")
  file = paths.local(_PROMPT_FILE.value)
  if not file.is_file():
    raise Mistake(f"--prompt_file={file} is no file; wanted a text file in UTF-8")
  text = read_text(file)
  return text.removesuffix("\n").removesuffix("\r")


def read_lines():
  """Yields the lines of the input that are not empty; Mistake when there is none."""
  is_terminal, count = sys.stdin.isatty(), 0
  while True:
    if is_terminal:
      print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
      break
    if line.strip():
      count += 1
      yield line.rstrip("\n")
  if not count and not is_terminal:
    raise Mistake("nothing to continue; give --prompt, --prompt_file or lines of input")


def answer(model, params, tokenizer, messages) -> list[str]:
  """Prints the texts that continue or answer the newest message, and returns them."""
  prompt = messages[-1]["content"]
  has_gaps = model.traits.source and fill.has_gaps(tokenizer, prompt)
  if is_chat(tokenizer, prompt):
    heading, ids = "", conversation(model, tokenizer, messages)
  elif has_gaps:
    heading, ids = "", tokenizer.marked(prompt)
  else:
    # What a model with an encoder writes does not continue the prompt.
    heading = "" if model.traits.source else prompt
    ids = prompts.encode(tokenizer, prompt)[0]
  start_s, options = time.perf_counter(), request(model, ids)
  generate = stream.search if _BEAM.value else stream.stream
  pieces = generate(model, params, tokenizer, [ids], **options)
  finished = functools.partial(fill.filled, tokenizer, prompt) if has_gaps else None
  texts, count = show(pieces, heading, finished)
  rate = count / (time.perf_counter() - start_s)
  compiling = " with compiling" if len(messages) == 1 else ""
  note(f"{counted(count, 'token')}, {rate:.1f} a second{compiling}")
  return texts


def is_chat(tokenizer, prompt: str) -> bool:
  """Returns True if the prompt is a message to answer, not a text to continue."""
  if _CHAT.value is None:
    return bool(prompt) and tokenizer.chat_template is not None
  return _CHAT.value


def conversation(model, tokenizer, messages):
  """Returns the ids of the newest messages, which leave half of the context free."""
  size = model.config.context // 2 or 2**31
  ids, left_out = chat.encode_newest(tokenizer, messages, size)
  if left_out:
    note(f"the {left_out} oldest messages are left out: half of the context is full")
  return ids


def request(model, ids) -> dict:
  """Returns the options of a generation from a prompt of these ids."""
  context, max_tokens = model.config.context, _MAX_TOKENS.value
  room = context - (1 if model.traits.source else len(ids))
  if max_tokens is None:
    max_tokens = max(1, min(DEFAULT_TOKENS, room)) if context else DEFAULT_TOKENS
  options = dict(max_tokens=max_tokens, n=_N.value)
  if _BEAM.value:
    return options | {"beams": _BEAM.value}
  options |= {flag.name: flag.value for flag in _SAMPLING}
  if context and max_tokens > room and _N.value == 1 and not model.traits.source:
    options["slides"] = True
    note(f"beyond the context of {context} tokens its newest half is read anew")
  return options


def show(pieces, heading: str, finished=None) -> tuple[list[str], int]:
  """Prints a single text as it comes, others when whole; what `finished` makes of ids.

  Returns (the texts without the heading, the number of tokens).
  """
  n, is_json = _N.value, _FORMAT.value == "json"
  streams = n == 1 and not is_json and finished is None
  texts, ids = [""] * n, [[] for _ in range(n)]
  if streams:
    print(heading, end="", flush=True)
  for piece in pieces:
    index = piece.index
    texts[index] += piece.text
    ids[index] += piece.ids.tolist()
    if streams:
      print(piece.text, end="\n" if piece.finish_reason else "", flush=True)
      continue
    if not piece.finish_reason:
      continue
    if finished:
      texts[index] = finished(ids[index])
    if is_json:
      row = dict(index=index, text=texts[index], ids=ids[index])
      row |= dict(finish_reason=piece.finish_reason)
      print(json.dumps(row, ensure_ascii=False), flush=True)
    else:
      title = f"--- {index + 1} of {n}\n" if n > 1 else ""
      print(f"{title}{heading}{texts[index]}", flush=True)
  return texts, sum(map(len, ids))


def show_scores(model, params, tokenizer, file):
  """Prints a JSON object for each text of a file: its log-probability, its tokens."""
  if not file.is_file():
    raise Mistake(f"--score={file} is no file; wanted one with a text a line")
  if file.suffix == ".jsonl":
    records = tables.read(f"jsonl:{file}", cache="")["train"]
    pair = ("context", "continuation")
    texts = [
      tuple(map(r.get, pair)) if "context" in r else r.get("text") for r in records
    ]
  else:
    texts = [line for line in read_text(file).splitlines() if line.strip()]
  for score in scoring.score(model, params, tokenizer, texts):
    print(json.dumps(score._asdict()))


def show_answers(task, model, params, tokenizer, prompt):
  """Prints the answer of a task for each prompt, which may be a JSON object."""
  context = model.config.context or 2**31
  for text in read_lines() if prompt is None else [prompt]:
    record = tasks.record_of(task, text)
    seq = min(prompts.bucket(task.length(tokenizer, record)), context)
    [answer] = task.answers(model, params, tokenizer, [record], seq=seq)
    line = json.dumps(answer, ensure_ascii=False)
    print(line if _FORMAT.value == "json" else task.shown(answer), flush=True)


def show_masks(candidates):
  """Prints a line for each mask: its likeliest tokens with their probabilities."""
  for number, rows in enumerate(candidates, start=1):
    if _FORMAT.value == "json":
      print(json.dumps(dict(mask=number, tokens=rows), ensure_ascii=False))
    else:
      listed = "  ".join(f"{token} {chance:.3f}" for token, chance in rows)
      print(f"mask {number}:  {listed}")


def note(line: str):
  """Prints a line that is not part of the text."""
  print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
  process.run(main, required=("workdir",))
