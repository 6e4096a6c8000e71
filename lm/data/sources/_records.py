"""Lazily read records, and the rules that hold some of them out; for all sources."""

import codecs
import hashlib
import json
import os
from collections.abc import Sequence

import numpy as np

from lm.errors import Mistake

VERSION = 1  # of the rules that hold documents out; raise it when they change
EVERY = 20  # one document of twenty is held out
BOM = "\ufeff"
_MARKS = {
  codecs.BOM_UTF32_LE: "UTF-32",
  codecs.BOM_UTF32_BE: "UTF-32",
  codecs.BOM_UTF16_LE: "UTF-16",
  codecs.BOM_UTF16_BE: "UTF-16",
}
# The bytes of a letter without a mark in front: zeros in such places.
_ZEROS = {
  "x0x0": "UTF-16LE",
  "0x0x": "UTF-16BE",
  "x000": "UTF-32LE",
  "000x": "UTF-32BE",
}


class Records(Sequence):
  """The sequence of read(item); can be sent to another process if its parts can."""

  def __init__(self, items, read):
    self.items, self.read = items, read

  def __len__(self):
    return len(self.items)

  def __getitem__(self, index: int) -> dict:
    return self.read(self.items[index])


def split(items, held, read) -> dict:
  """Returns {"train", "heldout"}: `Records` of the items by their flag in `held`."""
  train = [item for item, flag in zip(items, held, strict=True) if not flag]
  heldout = [item for item, flag in zip(items, held, strict=True) if flag]
  return {"train": Records(train, read), "heldout": Records(heldout, read)}


def same(record: dict) -> dict:
  """Returns a record that was read already."""
  return record


def held_by_place(num: int) -> list:
  """Flags of `num` items: set for the middle one of each twenty, for one at least."""
  first = min(EVERY // 2, num // 2)
  return [index % EVERY == first for index in range(num)]


def held_by_hash(hashes, where: str) -> np.ndarray:
  """Flags that are set for about a twentieth, the same ones when the corpus grows.

  Equal hashes get equal flags. Raises Mistake if all hashes are equal; `where` names
  the source in it.
  """
  hashes = np.asarray(hashes, np.uint64)
  if not (hashes != hashes[0]).any():
    raise Mistake(
      f"{where} has only one document; wanted at least two, one of them to hold out"
    )
  held = hashes % EVERY == 0
  # In a small corpus all flags may be equal: then the lowest hash is held out.
  return held if held.any() and not held.all() else hashes == hashes.min()


def hash64(data: bytes) -> int:
  """A 64-bit hash that is the same on every machine."""
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def shown(name: str) -> str:
  """A file's name as text: bytes that are not UTF-8 become "\\xe9"."""
  return os.fsencode(name).decode("utf-8", "backslashreplace")


def hash_of_name(name: str) -> int:
  """`hash64` of the bytes of a file's name, whatever the locale makes of them."""
  return hash64(os.fsencode(name))


def decode(data: bytes, where: str) -> str:
  """The text of UTF-8 bytes, without a byte-order mark in front.

  Raises Mistake for UTF-16, UTF-32 and tar, by name, and with the offset of the first
  byte that is not UTF-8.
  """
  if name := _encoding(data):
    raise Mistake(f"{where} is {name}; convert it first (iconv -f {name} -t utf-8)")
  if data[257:262] == b"ustar":
    raise Mistake(f"{where} is a tar archive; unpack it first")
  return utf8(data, where).removeprefix(BOM)


def utf8(data: bytes, where: str) -> str:
  """The text of UTF-8 bytes; Mistake with the offset of the first that is none."""
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise Mistake(
      f"{where} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start};"
      " convert it first (iconv -f latin1 -t utf-8)"
    ) from None


def from_json(line: bytes, where: str):
  """The value of a line of JSON; raises Mistake, which names `where`, if it is none."""
  text = decode(line, where)
  try:
    return json.loads(text, object_pairs_hook=_object)
  except json.JSONDecodeError as error:
    raise Mistake(f"{where} is not JSON: {error.msg} (column {error.colno})") from None
  except RecursionError:
    raise Mistake(f"{where} is nested too deep to be read") from None
  except ValueError as error:  # a number of more digits than Python reads, for one
    raise Mistake(f"{where} cannot be read: {str(error).partition(';')[0]}") from None


def _object(pairs: list) -> dict:
  """The dict of an object; ValueError for two texts, of which one is meant."""
  record = dict(pairs)
  if len(record) < len(pairs) and [key for key, _ in pairs].count("text") > 1:
    raise ValueError("it has 'text' twice")
  return record


def _encoding(data: bytes) -> str:
  """The name of UTF-16 or UTF-32, "" for other data.

  By its byte-order mark, or by the zeros beside each letter of Latin script.
  """
  for mark, name in _MARKS.items():  # UTF-32's begins with UTF-16's
    if data.startswith(mark):
      return name
  zeros = [data[place:4096:4].count(0) for place in range(4)]
  num = len(data[:4096]) // 4
  is_zero = "".join("0" if 10 * n >= 9 * num > 0 else "x" for n in zeros)
  return _ZEROS.get(is_zero, "")
