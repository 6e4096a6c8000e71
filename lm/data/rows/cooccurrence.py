"""How often words meet, counted over a stream of text in bounded memory.

Two words d places apart, d up to the window, meet 1/d times (Pennington et al. 2014,
section 4.2). Pairs are gathered until they fill LIMIT, sorted and summed into a run on
disk, and the runs are merged a range of keys at a time. Keys are scrambled, one to one:
so ranges are of equal size, sorted cells lie in random order, as training wants them,
and a share of all keys is a random share of the cells, which is held out.
"""

import itertools
import math
import re
import tempfile
from pathlib import Path

import numpy as np

from lm.data.rows.pack import empty_row
from lm.disk import atomic
from lm.errors import Mistake

LIMIT = 1 << 24  # pairs in memory: some 400 MB while they are sorted
CHUNK = 1 << 18  # tokens read at a time
HELDOUT = 50  # one cell in so many
WIDEST = 20  # of windows; 5 bits of a key hold a distance
DISTANCE_BITS = 5
# Odd numbers without a pattern (the golden ratio's and splitmix64's).
SCRAMBLE = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)
CELL = np.dtype([("one", "<u4"), ("other", "<u4"), ("count", "<f4")])


def window_of(pack: str) -> int | None:
  """N of "cooccurrence-N", None for other packs; Mistake for an N out of range."""
  found = re.fullmatch(r"cooccurrence-(\d+)", pack)
  if not found:
    return None
  if not 1 <= int(found[1]) <= WIDEST:
    raise Mistake(f"pack {pack!r}; wanted a window of 1 to {WIDEST} words")
  return int(found[1])


def cells(path, tokens, *, size: int, skip, end: int, window: int) -> np.ndarray:
  """The cells of a stream, counted on first use into the file `path`, as a memmap.

  `size` is the vocabulary's; ids in `skip` are no words, and what they stand between
  moves together; `end` ends a document. Each pair of words has one cell, whichever came
  first, and a word that meets itself counts twice. Scrambled, as `scrambled` has it.
  """
  path = Path(path)
  if not path.is_file():
    with atomic.locked(path.with_name(path.name + ".lock"), log=print):
      if not path.is_file():
        _count(path, tokens, size, skip=skip, end=end, window=window)
  if not path.stat().st_size:
    return np.zeros(0, CELL)
  return np.memmap(path, CELL, "r")


def split(found: np.ndarray, size: int) -> dict:
  """{"train", "heldout"}: views of cells."""
  bits = _bits(size)
  limit = (1 << bits) // HELDOUT
  low, high = 0, len(found)
  while low < high:  # a bisection, as the keys are not stored
    middle = (low + high) // 2
    one, other = (int(found[name][middle]) for name in ("one", "other"))
    if int(scrambled(np.array([one * size + other], np.uint64), bits)[0]) < limit:
      low = middle + 1
    else:
      high = middle
  return {"heldout": found[:low], "train": found[low:]}


def scrambled(keys, bits: int):
  """Keys below 2**bits in a random order: other keys below 2**bits, one to one."""
  mask, half = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
  for factor in SCRAMBLE:
    keys = (keys * np.uint64(factor)) & mask
    keys = keys ^ (keys >> half)
  return keys


def restored(keys, bits: int):
  """What `scrambled` was given."""
  mask, half = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
  for factor in reversed(SCRAMBLE):
    keys = keys ^ (keys >> half)
    keys = (keys * np.uint64(pow(factor, -1, 1 << bits))) & mask
  return keys


def _bits(size: int) -> int:
  bits = max(2, (size * size - 1).bit_length())
  if bits + DISTANCE_BITS > 64:
    raise Mistake(f"{size} words are too many to count pairs; wanted 2**29 at most")
  return bits


def _count(path, tokens, size, *, skip, end, window):
  from tqdm import tqdm

  bits = _bits(size)
  with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
    runs, waiting, num = [], [], 0
    known = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for start in tqdm(range(0, len(tokens), CHUNK), "pairs", disable=None):
      chunk = np.asarray(tokens[start : start + CHUNK])
      keys, known = _pairs(chunk, known, size, bits, skip=skip, end=end, window=window)
      waiting.append(keys)
      num += len(keys)
      if num >= LIMIT:
        runs.append(_run(waiting, window, Path(scratch, f"{len(runs)}")))
        waiting, num = [], 0
    runs.append(_run(waiting, window, Path(scratch, f"{len(runs)}")))
    new = Path(scratch, "cells")
    _merge(runs, new, size, bits, window)
    new.replace(path)


def _pairs(chunk, known, size, bits, *, skip, end, window):
  """(keys of the pairs whose later word is in the chunk, what the next has to know).

  A key has the scrambled pair in front and the distance in its last bits. Known are the
  last words, the document of each, and the number of the document that goes on.
  """
  ids, documents, current = known
  document = current + np.cumsum(chunk == end)
  real, old = ~np.isin(chunk, skip), len(ids)
  ids = np.concatenate([ids, chunk[real].astype(np.int64)])
  documents = np.concatenate([documents, document[real]])
  found = []
  for apart in range(1, window + 1):
    first = max(0, old - apart)  # so that the later word is a new one
    earlier = np.arange(first, len(ids) - apart)
    earlier = earlier[documents[earlier] == documents[earlier + apart]]
    one, other = ids[earlier], ids[earlier + apart]
    keys = np.minimum(one, other) * size + np.maximum(one, other)
    keys = scrambled(keys.astype(np.uint64), bits)
    found.append((keys << np.uint64(DISTANCE_BITS)) | np.uint64(apart))
  last = ids[-window:], documents[-window:], int(document[-1])
  return np.concatenate(found), last


def _unit(window: int) -> int:
  """What meeting once counts in a run: whole numbers have no rounding to depend on."""
  return math.lcm(*range(1, window + 1))


def _run(waiting, window: int, path) -> tuple:
  """Pairs sorted and summed, on disk: (keys, sums) as memmaps."""
  keys = np.sort(np.concatenate(waiting)) if waiting else np.zeros(0, np.uint64)
  apart = (keys & np.uint64((1 << DISTANCE_BITS) - 1)).astype(np.int64)
  sums = _unit(window) // np.maximum(apart, 1)
  return _stored(path, *_summed(keys >> np.uint64(DISTANCE_BITS), sums))


def _summed(keys, sums) -> tuple:
  """Sorted keys without repetition, and the sums of each."""
  if not len(keys):
    return keys, sums
  first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
  return keys[first], np.add.reduceat(sums, first)


def _stored(path, keys, sums) -> tuple:
  np.save(f"{path}.keys.npy", keys)
  np.save(f"{path}.sums.npy", sums)
  return tuple(np.load(f"{path}.{n}.npy", mmap_mode="r") for n in ("keys", "sums"))


def _merge(runs, path, size, bits, window):
  """Writes the cells of all runs, a range of keys at a time."""
  parts = max(1, 2 * sum(len(keys) for keys, _ in runs) // LIMIT)
  limits = [(1 << bits) * part // parts for part in range(parts + 1)]
  with open(path, "wb") as file:
    for low, high in itertools.pairwise(limits):
      slices = []
      for keys, sums in runs:
        ends = np.searchsorted(keys, np.array([low, high - 1], np.uint64), "left")
        stop = np.searchsorted(keys, np.uint64(high - 1), "right")
        slices.append((keys[ends[0] : stop], sums[ends[0] : stop]))
      keys = np.concatenate([keys for keys, _ in slices])
      sums = np.concatenate([sums for _, sums in slices])
      order = np.argsort(keys, kind="stable")
      keys, sums = _summed(keys[order], sums[order])
      pairs = restored(keys, bits)
      found = np.empty(len(keys), CELL)
      found["one"], found["other"] = np.divmod(pairs, np.uint64(size))
      itself = found["one"] == found["other"]
      found["count"] = sums * (1 + itself) / _unit(window)
      found.tofile(file)


class Rows:
  """Rows of `seq` cells: tokens_T meet targets_T as often as weights_T says.

  Every cell is in two rows, once from either side. The last rows are padded, weight 0.
  """

  def __init__(self, found, seq: int, pad: int):
    self._cells, self._seq, self._pad = found, seq, pad

  def __len__(self) -> int:
    return 2 * -(-len(self._cells) // self._seq)

  def __getitem__(self, row: int) -> dict:
    block, turned = divmod(int(row), 2)
    part = self._cells[block * self._seq : (block + 1) * self._seq]
    out = self.pad_row()
    one, other = ("other", "one") if turned else ("one", "other")
    out["tokens_T"][: len(part)] = part[one]
    out["targets_T"][: len(part)] = part[other]
    out["weights_T"][: len(part)] = part["count"]
    return out

  def pad_row(self) -> dict:
    return empty_row(self._seq, self._pad)
