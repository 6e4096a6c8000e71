"""Which tokens are pieces of one word, whatever tokenizer made them."""

import numpy as np


def joins(tokenizer):
  """The function (ids, next ids) -> whether each pair lies within one word.

  Byte-level: both bytes where they meet are letters, digits or beyond ASCII. WordPiece:
  the next begins with ##. SentencePiece: the next does not begin with its space.
  """
  size = tokenizer.size
  starts_V, ends_V = np.zeros(size, bool), np.ones(size, bool)
  if tokenizer.byte_level:
    for i in range(size):
      text = tokenizer.decode_bytes([i])
      starts_V[i], ends_V[i] = (bool(text) and _in_word(text[at]) for at in (0, -1))
  else:
    texts = [tokenizer.text_of_id(i) for i in range(size)]
    spaced = any(text.startswith("\u2581") for text in texts)
    for i, text in enumerate(texts):
      plain = spaced and text[:1] != "\u2581" and not text.startswith("<")
      starts_V[i] = text.startswith("##") or plain
  return lambda ids, after: ends_V[ids] & starts_V[after]


def _in_word(byte: int) -> bool:
  return byte >= 128 or chr(byte).isalnum()
