"""Events of the engine to text: pieces as they come, with what is known of each token.

A piece holds whole characters that no stop string can take back, and the tokens whose
text is in the pieces so far. The texts of all tokens, joined, are the text: a token
that is part of a character has the text "", and the last one of it the character.
"""

from typing import NamedTuple

import numpy as np

from lm.generate.detokenize import Writer
from lm.serve.requests import Begun, Scored, Written

LOWEST = -9999.0  # in place of minus infinity, which JSON does not have


class Token(NamedTuple):
  """A token of a text: where it begins, how likely it was, and what else was likely."""

  id: int
  text: str
  start: int  # the character of the text where it begins
  logprob: float | None  # None for the first of all, which nothing predicts
  top: tuple[tuple[int, float], ...] = ()  # the likeliest ids, the likeliest first


class Piece(NamedTuple):
  """More of a text, or all of it."""

  index: int  # prompt * n + sample
  text: str
  tokens: tuple[Token, ...]  # () unless their numbers are wanted
  finish_reason: str | None  # "stop", "length" or "cancelled" in the last piece


def data_of(tokenizer, id: int) -> bytes:
  """Returns the bytes that an id stands for by itself; b"" for a special token."""
  if tokenizer.byte_level:
    return tokenizer.decode_bytes([id])
  return tokenizer.decode_raw([id]).encode()


def spelt(tokenizer, ids) -> list[str]:
  """Returns the text that each of the ids adds; they begin a text."""
  writer, texts = Writer(tokenizer), []
  for id in ids:
    texts.append(writer.feed(int(id)))
  rest = writer.close()
  return [*texts[:-1], texts[-1] + rest] if texts else []


def tops(scored: Scored | None, size: int) -> list[tuple]:
  """Returns (logprob, likeliest (id, logprob) pairs) of each token of `size`."""
  if scored is None:
    return [(None, ())] * size
  likeliest = zip(
    scored.top_ids_TO.tolist(), _finite(scored.top_logprobs_TO).tolist(), strict=True
  )
  pairs = [tuple(zip(ids, logprobs, strict=True)) for ids, logprobs in likeliest]
  return list(zip(_finite(scored.logprobs_T).tolist(), pairs, strict=True))


def _finite(logprobs):
  return np.maximum(np.nan_to_num(logprobs, nan=LOWEST, neginf=LOWEST), LOWEST)


class Text:
  """A text that grows with the events of its request.

  `ends` are the ids that end it, which are no part of it, and `stop` strings before
  which it ends. `before` are the ids of its prompt, which come first where `echo` is
  True. With `scored`, pieces have tokens.
  """

  def __init__(self, tokenizer, index, *, before, ends, stop, scored, echo):
    self.index, self.reason, self.cached = index, None, 0
    self.ids, self.logprob = [], 0.0  # written so far; the sum of their logprobs
    self._tokenizer, self._ends = tokenizer, ends
    self._before, self._echo, self._scored = before, echo, scored
    self._writer = Writer(tokenizer, stop, before)
    self._raw = Writer(tokenizer, before=before)  # for the texts of tokens
    self._waiting: list[Token] = []  # whose text may still be taken back
    self._length = self._spelt = 0  # characters in pieces, and in tokens

  def take(self, event: Begun | Written) -> Piece:
    """Returns what an event adds; its text is often ""."""
    return self._begin(event) if isinstance(event, Begun) else self._write(event)

  def _begin(self, event: Begun) -> Piece:
    self.cached = event.cached
    if not self._echo:
      return Piece(self.index, "", (), None)
    texts = spelt(self._tokenizer, self._before)
    rows = [(None, ()), *tops(event.scored, len(texts) - 1)]
    pairs = zip(self._before, texts, rows, strict=True)
    tokens = [self._token(int(id), text, *row) for id, text, row in pairs]
    text = "".join(texts)
    self._length = len(text)
    return Piece(self.index, text, tuple(tokens) if self._scored else (), None)

  def _write(self, event: Written) -> Piece:
    text = ""
    rows = tops(event.scored, len(event.ids))
    for id, (logprob, top) in zip(event.ids, rows, strict=True):
      self.ids.append(id)
      self.logprob += logprob or 0.0
      is_text = id not in self._ends
      text += self._writer.feed(id) if is_text else ""
      if self._scored:
        part = self._raw.feed(id) if is_text else ""
        self._waiting.append(self._token(id, part, logprob, top))
      if self._writer.stopped:
        self.reason = "stop"
        break
    if event.finish_reason and not self.reason:
      text += self._close()
      self.reason = "stop" if self._writer.stopped else event.finish_reason
    self._length += len(text)
    return Piece(self.index, text, tuple(self._released()), self.reason)

  def _close(self) -> str:
    """Returns the rest of the text, which the last token of all has too."""
    rest = self._raw.close() if self._scored else ""
    if self._waiting and rest:
      last = self._waiting.pop()
      self._spelt += len(rest)
      self._waiting.append(last._replace(text=last.text + rest))
    return self._writer.close()

  def _token(self, id: int, text: str, logprob, top) -> Token:
    token = Token(id, text, self._spelt, logprob, top)
    self._spelt += len(text)
    return token

  def _released(self):
    """Yields the tokens whose text is in the pieces; the last may be cut by a stop."""
    while self._waiting:
      token = self._waiting[0]
      room = self._length - token.start
      is_whole, is_cut = len(token.text) <= room, self.reason and room > 0
      if not is_whole and not is_cut:
        break
      del self._waiting[0]
      yield token._replace(text=token.text[:room])
