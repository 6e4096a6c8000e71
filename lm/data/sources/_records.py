"""What all sources share: lazily read records, and which of them are held out."""

import hashlib
from collections.abc import Sequence

import numpy as np

from lm.errors import Mistake

EVERY = 20  # one document of twenty is held out
GZIP = b"\x1f\x8b"  # how its files begin, and no text does


class Records(Sequence):
  """read(items[i]) at [i]. Pickles (for a pool of processes) if both parts do."""

  def __init__(self, items, read):
    self.items, self.read = items, read

  def __len__(self):
    return len(self.items)

  def __getitem__(self, index: int) -> dict:
    return self.read(self.items[index])


def split(items, held, read) -> dict:
  """The two sequences, from a flag for each item."""
  train = [item for item, flag in zip(items, held, strict=True) if not flag]
  heldout = [item for item, flag in zip(items, held, strict=True) if flag]
  return {"train": Records(train, read), "heldout": Records(heldout, read)}


def held_by_place(num: int) -> list:
  """Flags: every twentieth, from the middle of each twenty; one at least."""
  first = min(EVERY // 2, num // 2)
  return [index % EVERY == first for index in range(num)]


def held_by_hash(hashes, where: str) -> np.ndarray:
  """Flags: about a twentieth, the same ones however much the corpus grows.

  Equal hashes fall on the same side. Mistake if there is nothing to divide.
  """
  hashes = np.asarray(hashes, np.uint64)
  if not (hashes != hashes[0]).any():
    raise Mistake(
      f"{where} has only one document; wanted at least two, one of them to hold out"
    )
  held = hashes % EVERY == 0
  # A small corpus may have none of either: then the one of the lowest hash is held out.
  return held if held.any() and not held.all() else hashes == hashes.min()


def hash64(data: bytes) -> int:
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def decode(data: bytes, where: str) -> str:
  """The text of UTF-8 bytes; Mistake names the place of the first wrong byte."""
  if data.startswith(GZIP):
    raise Mistake(f"{where} is compressed; gunzip the file first")
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise Mistake(
      f"{where} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start};"
      " convert it first (iconv -f latin1 -t utf-8)"
    ) from None
