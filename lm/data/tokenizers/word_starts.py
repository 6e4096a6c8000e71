"""The tokens that start a word, for tokenizers of all kinds."""

import numpy as np


def joins(tokenizer):
  """Returns a function (ids, next ids) -> flags: True if a pair is within one word.

  Byte-level: the bytes on both sides of the border are letters, digits or beyond ASCII.
  WordPiece: the next token begins with ##. SentencePiece: the next token does not begin
  with its space.
  """
  size = tokenizer.size
  continues_V, continued_V = np.zeros(size, bool), np.ones(size, bool)
  if tokenizer.byte_level:
    for i in range(size):
      text = tokenizer.decode_bytes([i])
      continues_V[i] = bool(text) and _in_word(text[0])
      continued_V[i] = bool(text) and _in_word(text[-1])
  else:
    texts = [tokenizer.text_of_id(i) for i in range(size)]
    spaced = any(text.startswith("\u2581") for text in texts)
    for i, text in enumerate(texts):
      plain = spaced and text[:1] != "\u2581" and not text.startswith("<")
      continues_V[i] = text.startswith("##") or plain

  def joined(ids, next_ids):
    return continued_V[ids] & continues_V[next_ids]

  return joined


def _in_word(byte: int) -> bool:
  return byte >= 128 or chr(byte).isalnum()
