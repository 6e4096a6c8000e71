"""Lazily read records, and the rules that hold some of them out; for all sources."""

import hashlib
from collections.abc import Sequence

import numpy as np

from lm.errors import Mistake

VERSION = 1  # of the rules that hold documents out; raise it when they change
EVERY = 20  # one document of twenty is held out
GZIP = b"\x1f\x8b"  # the first bytes of its files, which no text begins with


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


def decode(data: bytes, where: str) -> str:
  """The text of UTF-8 bytes; Mistake names the offset of the first wrong byte."""
  if data.startswith(GZIP):
    raise Mistake(f"{where} is compressed; gunzip the file first")
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise Mistake(
      f"{where} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start};"
      " convert it first (iconv -f latin1 -t utf-8)"
    ) from None
