"""Conversations as the text that a model was trained on: its own chat template.

    ids = chat.encode(tokenizer, [{"role": "user", "content": "Hello"}])

A template is a program that came with the weights. It runs in a process of its own,
within limits of time, memory and output, and sees nothing but the messages; see
lm.generate.chat.template. Starting that takes about 0.1 s.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from lm.errors import Mistake

PROGRAM = Path(__file__).with_name("template.py")
PATIENCE_S = 30  # of waiting; the program itself stops after less time of its own
MOST = 1_000_000  # characters of text


def render(source: str, messages, **variables) -> str:
  """The text of a conversation; Mistake when the template fails or goes too far.

  `messages` are dicts of JSON values with "role" and "content"; `variables` are what
  else a template may ask for, such as tools or bos_token.
  """
  told = {"add_generation_prompt": True} | variables | {"messages": list(messages)}
  asked = {"template": source, "variables": told, "most": MOST}
  # -I: neither the environment nor the current folder decides what is imported.
  command = [sys.executable, "-I", str(PROGRAM)]
  try:
    done = subprocess.run(
      command, input=json.dumps(asked).encode(), capture_output=True, timeout=PATIENCE_S
    )
  except subprocess.TimeoutExpired:
    raise Mistake(f"the chat template was not done after {PATIENCE_S} s") from None
  if done.returncode:
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode < 0:
      said = ["it takes too much time or memory"]
    raise Mistake(f"the chat template failed: {(said or ['no reason given'])[-1]}")
  return done.stdout.decode()


def encode(tokenizer, messages, **variables) -> np.ndarray:
  """The ids of a conversation up to where the model is to answer.

  Special tokens of the template are such; in a message "<|im_end|>" is ten characters.
  Raises Mistake when there is no template, or as `render`.
  """
  if tokenizer.chat_template is None:
    raise Mistake("the tokenizer has no chat template; this is no chat model")
  messages = json.loads(json.dumps(list(messages)))
  seam = _unused(json.dumps(messages, ensure_ascii=False))
  cut = _Cut(tokenizer.special, seam)
  told = tokenizer.special_tokens | variables
  text = render(tokenizer.chat_template, cut.all(messages), **told)
  parts = [tokenizer.marked(part) for part in text.split(seam)]
  return np.concatenate(parts).astype(np.int32)


def _unused(text: str) -> str:
  """A character that is not in the text: one of those that Unicode reserves for us."""
  return next(c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in text)


class _Cut:
  """Puts a seam into whatever looks like a special token, so that it is not one."""

  def __init__(self, special, seam):
    self._special, self._seam = [t for t in special if len(t) > 1], seam

  def all(self, value):
    if isinstance(value, dict):
      return {key: self.all(each) for key, each in value.items()}
    if isinstance(value, list):
      return [self.all(each) for each in value]
    if isinstance(value, str):
      for token in self._special:
        value = value.replace(token, token[0] + self._seam + token[1:])
    return value
