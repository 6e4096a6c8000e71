"""Rows of examples in memory, several in a row in place of padding.

An example is a dict of arrays along a letter, "tokens_T" or "source_S", and of numbers,
"label_"; examples may differ in length. A row has the arrays of its examples one after
the other, and beside them

  segments_T           1, 2, ... for the examples of the row, 0 for padding
  source_segments_S    the same along S, where the examples have a source
  label_P, weights_P   the numbers of each example; the weight is 0 where there is none
  example_P            in place of a number of its own: which example of all it is

An example of several parts (two answers to compare) has a segments_T of its own, in
which they are 1, 2, ...; those of the next example in the row go on from there.

A model that reads the segments computes for each example what it would alone. For one
that cannot, rows `alone` hold one example each, and no segments_T.
"""

import copy

import numpy as np

from lm.data.rows import ArrayShape, Rows
from lm.data.rows.first_fit import first_fit
from lm.errors import Mistake

LEAST = 8  # positions that an example with numbers takes, so that P needs no data
EXAMPLE = "example_"  # the key of an example's number
SEGMENTS = {"T": "segments_T", "S": "source_segments_S"}


class Packed(Rows):
  """Rows of `sizes` positions by letter, {"T": 128}, of examples that fit in them.

  `dtypes` has the dtype of each key of an example, {"tokens_T": "int32", "label_":
  "int32"}. `pad` is the id that fills up tokens and sources; all else is filled with 0.
  `parts` is how many segments an example takes; it brings them itself if there are
  several. `members` are the numbers of the examples in each row, `num_cut` and
  `num_left_out` how many had to be cut or could not be read at all, which the caller
  knows, and `padding_share` the share of positions that hold none. With `alone` each
  example has a row of its own.
  """

  def __init__(
    self,
    examples,
    *,
    sizes: dict,
    dtypes: dict,
    pad: int,
    parts=1,
    num_cut=0,
    num_left_out=0,
    alone=False,
  ):
    if not len(examples):
      raise Mistake("there are no records; wanted one at least")
    self._examples, self._sizes, self._dtypes = examples, sizes, dtypes
    self._pad, self._parts, self._alone = pad, parts, alone
    self.num_cut, self.num_left_out = num_cut, num_left_out
    self._numbers = [key for key in dtypes if not _letter(key)]
    least = LEAST if self._numbers else 1
    lengths_RP = np.array(
      [
        [max(self._length(example, a), min(least, size)) for example in examples]
        for a, size in sizes.items()
      ]
    )
    row_P = np.arange(len(examples))
    if not alone:
      row_P = _rows_of(lengths_RP, list(sizes.values()))
    order_P = np.argsort(row_P, kind="stable")
    self.members = np.split(order_P, np.cumsum(np.bincount(row_P))[:-1])
    filled = sum(self._length(example, a) for example in examples for a in sizes)
    self.padding_share = 1 - filled / (len(self) * sum(sizes.values()))

  def _length(self, example: dict, letter: str) -> int:
    return next(len(x) for key, x in example.items() if _letter(key) == letter)

  def __len__(self) -> int:
    return len(self.members)

  def __getitem__(self, index: int) -> dict:
    row, start = self.padding(), dict.fromkeys(self._sizes, 0)
    for place, number in enumerate(self.members[index]):
      example = self._examples[number]
      for key in self._numbers:
        row[f"{key}P"][place] = number if key == EXAMPLE else example[key]
        row["weights_P"][place] = 1
      for letter, begin in start.items():
        end = begin + self._length(example, letter)
        if SEGMENTS[letter] in row:
          row[SEGMENTS[letter]][begin:end] = place + 1
        start[letter] = end
        for key, values in example.items():
          if key == SEGMENTS[letter]:
            row[key][begin:end] = np.asarray(values) + place * self._parts
          elif _letter(key) == letter:
            row[key][begin:end] = values
    return row

  def numbered(self) -> "Packed":
    """The same rows with example_P."""
    rows = copy.copy(self)
    rows._dtypes = self._dtypes | {EXAMPLE: "int32"}
    rows._numbers = [key for key in rows._dtypes if not _letter(key)]
    return rows

  def padding(self) -> dict:
    return padding(self._sizes, self._dtypes, self._pad, alone=self._alone)


def padding(
  sizes: dict, dtypes: dict, pad: int = 0, *, alone=False
) -> dict[str, np.ndarray]:
  """Returns a row without examples; arguments as in `Packed`."""
  row = {SEGMENTS[letter]: np.zeros(size, np.int32) for letter, size in sizes.items()}
  if alone:
    del row[SEGMENTS["T"]]
  for key, dtype in dtypes.items():
    if letter := _letter(key):
      is_ids = key in ("tokens_T", "source_S")
      row[key] = np.full(sizes[letter], pad if is_ids else 0, dtype)
    else:
      num = max(1, min(sizes.values()) // LEAST)
      row[f"{key}P"] = np.zeros(num, dtype)
      row["weights_P"] = np.zeros(num, np.float32)
  return row


def shapes(sizes: dict, dtypes: dict, *, alone=False) -> dict[str, ArrayShape]:
  """Returns the arrays of a row, without data."""
  row = padding(sizes, dtypes, alone=alone)
  return {key: ArrayShape(x.shape, x.dtype) for key, x in row.items()}


def _letter(key: str) -> str:
  return key.rpartition("_")[2]


def _rows_of(lengths_RP, sizes: list[int]) -> np.ndarray:
  """Returns the row of each example by first-fit-decreasing, along one letter or two.

  Along two an example is as long as it is along the one that it fills more.
  """
  if len(sizes) == 1:
    return first_fit(lengths_RP[0], sizes[0])
  sizes_R1 = np.array(sizes)[:, None]
  assert (lengths_RP <= sizes_R1).all()
  row_P, num_rows = np.empty(lengths_RP.shape[1], np.int64), 0
  room_RP = np.repeat(sizes_R1, len(row_P), axis=1)
  for number in np.argsort(-(lengths_RP / sizes_R1).max(0), kind="stable"):
    length_R1 = lengths_RP[:, number, None]
    fits_P = (room_RP[:, : num_rows + 1] >= length_R1).all(0)
    row_P[number] = int(np.argmax(fits_P))
    room_RP[:, row_P[number], None] -= length_R1
    num_rows = max(num_rows, row_P[number] + 1)
  return row_P


def cut(ids, size: int) -> np.ndarray:
  """Returns at most `size` ids: the first ones and the last, which may be special."""
  return ids if len(ids) <= size else np.append(ids[: size - 1], ids[-1])
