"""Counts of co-occurring words in a token stream, in bounded memory: GloVe's input.

Two words d positions apart, d up to the window ("cooccurrence-10"), meet 1/d times
(Pennington et al. 2014, section 4.2). Pairs are gathered until they fill LIMIT, sorted
and summed into a run on disk, and the runs are merged a range of keys at a time. Keys
are scrambled by a bijection: so ranges are of equal size, sorted cells are in random
order, as training wants them, and a range of keys is a random sample of the cells,
which is held out.
"""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np

from lm.data.rows import Rows, empty_row, pad_id, text_shapes
from lm.data.tokenizers import word_level
from lm.errors import Mistake, one_of

ORDER = "shuffled"
HOLDS = "counts"
NUMBER = (1, 20)  # words of the window; 5 bits of a key hold a distance
VERSION = 1  # of the cells; raise it when the same tokens give others

LIMIT = 1 << 24  # pairs in memory: some 400 MB while they are sorted
CHUNK = 1 << 18  # tokens read at a time
HELDOUT = 50  # one cell of this many is held out
DISTANCE_BITS = 5
# Odd numbers without a pattern (the golden ratio's and splitmix64's).
SCRAMBLE = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)
CELL = np.dtype([("first", "<u4"), ("second", "<u4"), ("count", "<f4")])


def shapes(seq: int, window: int) -> dict:
  """The arrays of one row, those of text."""
  return text_shapes(seq)


def rows(corpus, split: str, seq: int, window: int) -> "CellRows":
  """The rows of a split, whose cells are both counted in the training text.

  Raises Mistake when no two words meet in it.
  """
  tok = corpus.tokenizer

  def write(path):
    tokens, skip = corpus.tokens("train"), word_level.no_words(tok)
    count(path, tokens, tok.size, skip=skip, end=tok.eos, window=window)

  path = corpus.file(f"cooccurrence-{window}-v{VERSION}.cells", write)
  cells = split_cells(open_cells(path), tok.size)
  one_of("split", split, cells)
  if split == "train" and not len(cells["train"]):
    raise Mistake(
      f"no two words of {corpus.folder.name} are within {window} positions; give more "
      "text or a larger window"
    )
  return CellRows(cells[split], seq, pad_id(tok))


def open_cells(path) -> np.ndarray:
  """The cells in a file, mapped into memory; there may be none."""
  if not Path(path).stat().st_size:
    return np.zeros(0, CELL)
  return np.memmap(path, CELL, "r")


def split_cells(cells: np.ndarray, size: int) -> dict[str, np.ndarray]:
  """{"train", "heldout"}: views of the cells of a vocabulary of `size`."""
  bits = _bits(size)
  limit = (1 << bits) // HELDOUT
  low, high = 0, len(cells)
  while low < high:  # bisect over the keys, which are computed and not stored
    middle = (low + high) // 2
    first, second = (int(cells[name][middle]) for name in ("first", "second"))
    if int(scrambled(np.array([first * size + second], np.uint64), bits)[0]) < limit:
      low = middle + 1
    else:
      high = middle
  return {"heldout": cells[:low], "train": cells[low:]}


def scrambled(keys, bits: int):
  """A fixed permutation of the keys below 2**bits that looks random."""
  mask, half = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
  for factor in SCRAMBLE:
    keys = (keys * np.uint64(factor)) & mask
    keys = keys ^ (keys >> half)
  return keys


def restored(keys, bits: int):
  """The inverse of `scrambled`."""
  mask, half = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
  for factor in reversed(SCRAMBLE):
    keys = keys ^ (keys >> half)
    keys = (keys * np.uint64(pow(factor, -1, 1 << bits))) & mask
  return keys


def _bits(size: int) -> int:
  """The bits of the key of a pair of words, of a vocabulary of `size`."""
  bits = max(2, (size * size - 1).bit_length())
  if bits + DISTANCE_BITS > 64:
    raise Mistake(f"{size} words are too many to count pairs; wanted 2**29 at most")
  return bits


def count(path, tokens, size: int, *, skip, end: int, window: int):
  """Counts the cells of a token stream into the file `path`.

  `size` is that of the vocabulary. Ids in `skip` are no words: the words around them
  become neighbours. `end` is the id that ends a document. Each pair of words has one
  cell, whichever came first, and a word that meets itself counts twice. Cells are in
  the order of their scrambled keys.
  """
  from tqdm import tqdm

  bits = _bits(size)
  with tempfile.TemporaryDirectory(dir=Path(path).parent) as scratch:
    runs, waiting, num = [], [], 0
    context = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for start in tqdm(range(0, len(tokens), CHUNK), "pairs", disable=None):
      chunk = np.asarray(tokens[start : start + CHUNK])
      keys, context = _pairs(
        chunk, context, size, bits, skip=skip, end=end, window=window
      )
      waiting.append(keys)
      num += len(keys)
      if num >= LIMIT:
        runs.append(_run(waiting, window, Path(scratch, f"{len(runs)}")))
        waiting, num = [], 0
    runs.append(_run(waiting, window, Path(scratch, f"{len(runs)}")))
    _merge(runs, path, size, bits, window)


def _pairs(chunk, context, size, bits, *, skip, end, window):
  """(keys of the pairs whose later word is in the chunk, the context of the next one).

  A key is the scrambled pair, followed by the distance in its last bits. The context is
  the last words before the chunk, the document of each, and the number of the document
  that the chunk continues.
  """
  ids, documents, current = context
  document = current + np.cumsum(chunk == end)
  real, old = ~np.isin(chunk, skip), len(ids)
  ids = np.concatenate([ids, chunk[real].astype(np.int64)])
  documents = np.concatenate([documents, document[real]])
  keys_by_distance = []
  for distance in range(1, window + 1):
    start = max(0, old - distance)  # so that the later word is in the chunk
    earlier = np.arange(start, len(ids) - distance)
    earlier = earlier[documents[earlier] == documents[earlier + distance]]
    first, second = ids[earlier], ids[earlier + distance]
    keys = np.minimum(first, second) * size + np.maximum(first, second)
    keys = scrambled(keys.astype(np.uint64), bits)
    keys_by_distance.append((keys << np.uint64(DISTANCE_BITS)) | np.uint64(distance))
  context = ids[-window:], documents[-window:], int(document[-1])
  return np.concatenate(keys_by_distance), context


def _unit(window: int) -> int:
  """The count of two neighbours in a run: all 1/d are whole multiples, so sums are
  exact whatever their order."""
  return math.lcm(*range(1, window + 1))


def _run(waiting, window: int, path) -> tuple:
  """Pairs sorted and summed, on disk: (keys, sums) as memmaps."""
  keys = np.sort(np.concatenate(waiting)) if waiting else np.zeros(0, np.uint64)
  distance = (keys & np.uint64((1 << DISTANCE_BITS) - 1)).astype(np.int64)
  sums = _unit(window) // np.maximum(distance, 1)
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
      cells = np.empty(len(keys), CELL)
      cells["first"], cells["second"] = np.divmod(pairs, np.uint64(size))
      is_itself = cells["first"] == cells["second"]
      cells["count"] = sums * (1 + is_itself) / _unit(window)
      cells.tofile(file)


class CellRows(Rows):
  """Rows of `seq` cells: tokens_T meet targets_T weights_T times.

  Every cell is in two rows, once from either side. The last rows are padded, weight 0.
  """

  def __init__(self, cells, seq: int, pad: int):
    self._cells, self._seq, self._pad = cells, seq, pad

  def __len__(self) -> int:
    return 2 * -(-len(self._cells) // self._seq)

  def __getitem__(self, index: int) -> dict:
    block, swapped = divmod(int(index), 2)
    cells = self._cells[block * self._seq : (block + 1) * self._seq]
    row = self.padding()
    inputs, targets = ("second", "first") if swapped else ("first", "second")
    row["tokens_T"][: len(cells)] = cells[inputs]
    row["targets_T"][: len(cells)] = cells[targets]
    row["weights_T"][: len(cells)] = cells["count"]
    return row

  def padding(self) -> dict:
    return empty_row(self._seq, self._pad)
