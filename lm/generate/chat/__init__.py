"""Conversations as the text that a model was trained on: its own chat template.

    ids = chat.encode(tokenizer, [{"role": "user", "content": "Hello"}])
    texts = chat.render_many(tokenizer.chat_template, conversations)

A template is a program that came with the weights. It runs in a process of its own,
within limits of time, memory and output, and is given nothing but the messages; see
lm.generate.chat.template. Starting the process takes about 0.1 s.
"""

import contextlib
import functools
import json
import select
import subprocess
import sys
from pathlib import Path

import numpy as np

from lm.errors import Mistake

PROGRAM = Path(__file__).with_name("template.py")
PATIENCE_S = 30  # of waiting for a conversation, on a machine with other work to do
CPU_S = 2  # for a conversation
MEMORY_BYTES = 1 << 29  # for the process
MAX_CHARS = 1_000_000  # of a rendered conversation
# What `transformers` gives to every template: `tools is none` is a test there.
DEFAULTS = {"add_generation_prompt": True, "tools": None, "documents": None}


def render(source: str, messages, **variables) -> str:
  """Returns the text of a conversation; as `render_many` of one."""
  return render_many(source, [messages], **variables)[0]


def render_many(source: str, conversations, **variables) -> list[str]:
  """Returns the texts of conversations, all rendered by one process.

  `source` is the template. A conversation is a list of messages: dicts of JSON values
  with "role" and "content". `variables` are what else the template may use, such as
  tools, bos_token, or add_generation_prompt (True by default). Raises Mistake when the
  template fails, or takes more than CPU_S, PATIENCE_S, MEMORY_BYTES or MAX_CHARS.
  """
  conversations = [list(messages) for messages in conversations]
  if not conversations:
    return []
  with Renderer(source, **variables) as renderer:
    return [renderer(messages) for messages in conversations]


class Renderer:
  """A process that renders conversations by the template `source`, one after another.

    with Renderer(tokenizer.chat_template) as renderer:
      text = renderer(messages, tools=tools)

  Variables of a call are for its conversation alone. The process ends with a
  conversation that it cannot render, which raises Mistake as `render_many` does.
  """

  def __init__(self, source: str, **variables):
    limits = {"cpu_s": CPU_S, "memory_bytes": MEMORY_BYTES, "max_chars": MAX_CHARS}
    header = {"template": source, "variables": DEFAULTS | variables, "limits": limits}
    # -I: neither the environment nor the current folder decides what is imported.
    self._process = subprocess.Popen(
      [sys.executable, "-I", str(PROGRAM)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
    _send(self._process, header)

  def __call__(self, messages, /, **variables) -> str:
    return _rendered(self._process, variables | {"messages": messages})

  def close(self) -> None:
    self._process.kill()
    self._process.communicate()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


def _send(process, value):
  """Writes a line of JSON; that the process has ended is seen when its answer lacks."""
  with contextlib.suppress(BrokenPipeError):
    process.stdin.write(json.dumps(value).encode() + b"\n")
    process.stdin.flush()


def _rendered(process, variables: dict) -> str:
  """The text of one conversation; the process has answered all others before it."""
  _send(process, variables)
  ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
  if not ready:
    raise Mistake(f"the chat template was not done after {PATIENCE_S} s")
  line = process.stdout.readline()
  if line.endswith(b"\n"):
    return json.loads(line)
  _, errors = process.communicate()
  reasons = errors.decode("utf-8", "replace").strip().splitlines()
  if process.returncode < 0:
    reasons = ["it takes too much time or memory"]
  raise Mistake(f"the chat template failed: {(reasons or ['no reason given'])[-1]}")


def encode(tokenizer, messages, /, *, renderer=None, **variables) -> np.ndarray:
  """Returns the ids of a conversation up to where the model is to answer.

  Special tokens of the template become such; in a message, or in another variable,
  "<|im_end|>" is ten characters. `renderer` is called as a Renderer of the template, by
  default one for this conversation. Raises Mistake when there is no template, or as
  `render`.
  """
  if tokenizer.chat_template is None:
    raise Mistake("the tokenizer has no chat template; this is no chat model")
  variables = json.loads(json.dumps({"messages": list(messages)} | variables))
  seam = unused_char(json.dumps(variables, ensure_ascii=False))
  variables = Splitter(tokenizer.special, seam).split(variables)
  messages = variables.pop("messages")
  if renderer is None:
    variables = tokenizer.special_tokens | variables
    text = render(tokenizer.chat_template, messages, **variables)
  else:
    text = renderer(messages, **variables)
  parts = [tokenizer.marked(part) for part in text.split(seam)]
  return np.concatenate(parts).astype(np.int32)


def encode_newest(tokenizer, messages, size: int) -> tuple[np.ndarray, int]:
  """Returns (ids, the number of messages left out), as `encode` of what fits.

  The oldest turns, two messages each, are left out until the ids are at most `size`; a
  system message and the newest message stay. Raises Mistake as `encode`.
  """
  messages, left_out = list(messages), 0
  first = int(messages[0]["role"] == "system")
  ids = encode(tokenizer, messages)
  while len(ids) > size and len(messages) > first + 2:
    del messages[first : first + 2]
    left_out += 2
    ids = encode(tokenizer, messages)
  return ids, left_out


def stops(tokenizer) -> frozenset[int]:
  """Returns the ids that end an answer: `tokenizer.stops`, and the template's own.

  The template's own is the special token that it puts behind an answer.
  """
  if tokenizer.chat_template is None:
    return tokenizer.stops
  named = tuple(tokenizer.special_tokens.items())
  end = _end_of_turn(tokenizer.chat_template, named, tuple(tokenizer.added))
  return tokenizer.stops | ({tokenizer.id(end)} if end else frozenset())


@functools.cache
def _end_of_turn(source: str, named: tuple, added: tuple[str, ...]) -> str:
  """Returns the token of `added` that a template puts behind an answer, or "".

  `named` are the items of `Tokenizer.special_tokens`.
  """
  seam = unused_char(source)
  question = {"role": "user", "content": "Hello"}
  answer = {"role": "assistant", "content": f"{seam}Hello{seam}"}
  variables = dict(named, add_generation_prompt=False)
  try:
    text = render(source, [question, answer], **variables)
  except Mistake:
    return ""  # a template for other conversations: it says nothing about answers
  rest = text.rpartition(seam)[2].lstrip()
  return max(filter(rest.startswith, added), key=len, default="")


def unused_char(text: str) -> str:
  """A noncharacter of Unicode (reserved for internal use) that is not in the text.

  Raises Mistake for a text that has all of them.
  """
  char = next((c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in text), None)
  if char is None:
    raise Mistake("the text has all noncharacters, U+FDD0 to U+FDEF; leave one out")
  return char


class Splitter:
  """Puts a seam into strings that look like a special token, so that they are none."""

  def __init__(self, special, seam):
    self._special = [token for token in special if len(token) > 1]
    self._seam = seam

  def split(self, value):
    """A JSON value with seams in all its strings."""
    if isinstance(value, dict):
      return {self.split(key): self.split(inner) for key, inner in value.items()}
    if isinstance(value, list):
      return [self.split(inner) for inner in value]
    if isinstance(value, str):
      for token in self._special:
        value = value.replace(token, token[0] + self._seam + token[1:])
    return value
