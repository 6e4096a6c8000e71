"""A chat template in a process that stays, for the conversations of many clients."""

import threading

from lm.errors import Mistake
from lm.generate import chat


class Template:
  """Renders conversations, one at a time, from any thread.

  Its process starts with the first one, and anew after one that failed.
  """

  def __init__(self, tokenizer):
    self._tokenizer, self._lock, self._renderer = tokenizer, threading.Lock(), None

  def __call__(self, messages, /, **variables) -> str:
    with self._lock:
      if self._renderer is None:
        named = self._tokenizer.special_tokens
        self._renderer = chat.Renderer(self._tokenizer.chat_template, **named)
      try:
        return self._renderer(messages, **variables)
      except Mistake:
        self._stop()
        raise

  def close(self) -> None:
    """Ends the process, if there is one."""
    with self._lock:
      self._stop()

  def _stop(self) -> None:
    if self._renderer is not None:
      self._renderer.close()
      self._renderer = None
