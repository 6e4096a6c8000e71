"""SentencePiece's .model files (arXiv:1808.06226), read without its library.

They are protocol buffers (sentencepiece_model.proto), of which a few fields are needed.
"""

import struct
from pathlib import Path

from lm.errors import Mistake

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # kinds of a piece
UNIGRAM, BPE = 1, 2
# Fields of TrainerSpec with the id and the text of a special piece, and its default.
SPECIALS = {
  "unk": (40, 45, "<unk>"),
  "bos": (41, 46, "<s>"),
  "eos": (42, 47, "</s>"),
  "pad": (43, 48, "<pad>"),
}


def read(path) -> tuple[dict, dict[str, str]]:
  """(keywords of `builders.pieces`, {"bos": "<s>", ...}) of a file.

  The first are its pieces and rules, the second its special pieces. Raises Mistake for
  a file that is damaged or holds another model.
  """
  data = Path(path).read_bytes()
  try:
    model = dict(texts=[], scores=[], kinds=[], model=UNIGRAM)
    model |= dict(dummy_prefix=True, squeeze=True, charsmap=b"")
    trained = {}
    for number, value in _fields(data):
      if number == 1:
        piece = {1: b"", 2: 0.0, 3: NORMAL} | dict(_fields(value))
        model["texts"].append(piece[1].decode())
        model["scores"].append(piece[2])
        model["kinds"].append(piece[3])
      elif number == 2:
        trained = dict(_fields(value))
        model["model"] = trained.get(3, UNIGRAM)
      elif number == 3:
        rules = {2: b"", 3: 1, 4: 1} | dict(_fields(value))
        model["charsmap"] = rules[2]
        model["dummy_prefix"], model["squeeze"] = bool(rules[3]), bool(rules[4])
  except (ValueError, IndexError, AttributeError, TypeError, struct.error) as error:
    raise Mistake(f"{path} is no SentencePiece model: {error}") from error
  if not model["texts"] or model["model"] not in (UNIGRAM, BPE):
    raise Mistake(
      f"{path} is no SentencePiece model with pieces of a unigram or BPE model"
    )
  return model, _named(trained, set(model["texts"]))


def _named(trained: dict, texts: set[str]) -> dict[str, str]:
  """{"bos": "<s>", ...} by the numbers of TrainerSpec's fields, of pieces there are."""
  named = {}
  for name, (id_number, text_number, default) in SPECIALS.items():
    text = trained.get(text_number, default.encode()).decode()
    if trained.get(id_number, 0) < 1 << 63 and text in texts:  # -1: there is none
      named[name] = text
  return named


def _fields(data: bytes):
  """Yields (number, value) of the fields of a message: ints, float32s and bytes."""
  offset = 0
  while offset < len(data):
    key, offset = _varint(data, offset)
    kind = key & 7
    if kind == 0:
      value, offset = _varint(data, offset)
    elif kind == 5:
      [value] = struct.unpack_from("<f", data, offset)
      offset += 4
    elif kind == 1:
      value, offset = data[offset : offset + 8], offset + 8
    elif kind == 2:
      size, offset = _varint(data, offset)
      value, offset = data[offset : offset + size], offset + size
    else:
      raise Mistake(f"no wire type {kind}")
    if offset > len(data):
      raise Mistake("it is cut off")
    yield key >> 3, value


def _varint(data: bytes, offset: int) -> tuple[int, int]:
  """(the integer at an offset, the offset behind it)."""
  value = shift = 0
  while True:
    byte = data[offset]
    value |= (byte & 127) << shift
    offset, shift = offset + 1, shift + 7
    if byte < 128:
      return value, offset
    if shift > 63:
      raise Mistake("a number has over 64 bits")
