"""Ids to text, one id at a time: whole characters only, stop strings never shown."""

import codecs

CONTEXT = 8  # ids before the continuation that may change the text of its first token


class Writer:
  """Turns ids that come one by one into text that can no longer change.

      writer = Writer(tokenizer, stop=["\\n"])
      text = "".join(writer.feed(id) for id in ids) + writer.close()

  Holds back bytes that are not yet a whole character, and text that may be the
  beginning of a stop string. The text ends before the stop string that is complete
  first, so it does not depend on how the ids are grouped. `before` are the ids that
  precede the text, which some tokenizers need to know whether a word begins with a
  space. `stopped` is True once a stop string was complete.
  """

  def __init__(self, tokenizer, stop=(), before=()):
    self._tokenizer, self._stop = tokenizer, tuple(stop)
    self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    self._shown_ids, self._new_ids = [int(id) for id in before[-CONTEXT:]], []
    self._held = ""  # may begin a stop string
    self.stopped = False

  def feed(self, id: int) -> str:
    """Returns the text that this id makes certain, often ""."""
    if self._tokenizer.bytes_V is not None:
      return self._release(self._utf8.decode(self._tokenizer.decode_bytes([id])))
    # The bytes of an id depend on the ids around it: decode a few of them together.
    self._new_ids.append(id)
    text = self._new_text()
    if text.endswith("\ufffd"):
      return ""
    self._shown_ids, self._new_ids = self._new_ids, []
    return self._release(text)

  def close(self) -> str:
    """Returns the rest, after the last id; half a character becomes U+FFFD."""
    rest = self._new_text() if self._new_ids else self._utf8.decode(b"", final=True)
    text = self._release(rest) + self._held
    self._held = ""
    return text

  def _new_text(self) -> str:
    """The text that the new ids add to that of the ids shown before."""
    shown = self._tokenizer.decode_raw(self._shown_ids)
    return self._tokenizer.decode_raw(self._shown_ids + self._new_ids)[len(shown) :]

  def _release(self, text: str) -> str:
    """The held text and `text`, without what may begin a stop string."""
    if self.stopped:
      return ""
    text = self._held + text
    matches = [(text.find(s) + len(s), text.find(s)) for s in self._stop if s in text]
    if matches:
      self.stopped, self._held = True, ""
      return text[: min(matches)[1]]
    held = max((_overlap(text, s) for s in self._stop), default=0)
    self._held = text[len(text) - held :]
    return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
  """The number of characters at the end of `text` that could begin `stop`."""
  longest = min(len(text), len(stop) - 1)
  return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
