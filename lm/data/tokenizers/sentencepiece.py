"""SentencePiece's .model files (arXiv:1808.06226), read without its library.

They are protocol buffers, of which a few fields matter here.
"""

import struct
from pathlib import Path

from lm.errors import Mistake

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # kinds of a piece
UNIGRAM, BPE = 1, 2


def read(path) -> dict:
  """The pieces and rules of a file, as keywords of `kinds.pieces`."""
  data = Path(path).read_bytes()
  try:
    told = dict(texts=[], scores=[], kinds=[], model=UNIGRAM)
    told |= dict(dummy_prefix=True, squeeze=True, charsmap=b"")
    for number, value in _fields(data):
      if number == 1:
        piece = {1: b"", 2: 0.0, 3: NORMAL} | dict(_fields(value))
        told["texts"].append(piece[1].decode())
        told["scores"].append(piece[2])
        told["kinds"].append(piece[3])
      elif number == 2:
        told["model"] = dict(_fields(value)).get(3, UNIGRAM)
      elif number == 3:
        rules = {2: b"", 3: 1, 4: 1} | dict(_fields(value))
        told["charsmap"] = rules[2]
        told["dummy_prefix"], told["squeeze"] = bool(rules[3]), bool(rules[4])
  except (ValueError, IndexError, AttributeError, TypeError, struct.error) as error:
    raise Mistake(f"{path} is no SentencePiece model: {error}") from error
  if not told["texts"] or told["model"] not in (UNIGRAM, BPE):
    raise Mistake(
      f"{path} is no SentencePiece model with pieces of a unigram or BPE model"
    )
  return told


def _fields(data: bytes):
  """Yields (number, value) of a message: ints, floats of four bytes, and bytes."""
  at = 0
  while at < len(data):
    key, at = _varint(data, at)
    kind = key & 7
    if kind == 0:
      value, at = _varint(data, at)
    elif kind == 5:
      [value] = struct.unpack_from("<f", data, at)
      at += 4
    elif kind == 1:
      value, at = data[at : at + 8], at + 8
    elif kind == 2:
      size, at = _varint(data, at)
      value, at = data[at : at + size], at + size
    else:
      raise Mistake(f"no wire type {kind}")
    if at > len(data):
      raise Mistake("it is cut off")
    yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = data[at]
    value |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return value, at
    if shift > 63:
      raise Mistake("a number has over 64 bits")
