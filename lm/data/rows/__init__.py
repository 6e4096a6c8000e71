"""Rows of a split by index: one file a kind of row, with its name.

A kind is a module here; its name is the value of `data.rows` in a config. It has
  ORDER    the order of training rows: "shuffled" (a new order every epoch) or
           "carried" (place b of a batch continues place b of the batch before)
  HOLDS    the content of one row: "text" (one run of tokens), "documents" (several,
           separated by segments_T) or "counts" (no text that a corruption could read)
  shapes(seq) -> {key: ArrayShape} of one row, without data
  rows(corpus, split, seq) -> Rows, see lm.data.corpus.reader.Corpus
  NUMBER   (least, most), only in a kind whose name ends in one number
           ("cooccurrence-10"), which `shapes` and `rows` then take as the last argument
Adding the file is registering the kind; it leaves the token shards as they are.
"""

import dataclasses
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np

from lm import lookup
from lm.errors import Mistake, one_of

ORDERS = ("shuffled", "carried")


class ArrayShape(NamedTuple):
  """The shape and dtype of an array that need not exist."""

  shape: tuple[int, ...]
  dtype: np.dtype


class Rows(Protocol):
  """Rows by index, each a dict of numpy arrays. A kind's class inherits from this one.

  A key is a name and the letters of the array: "tokens_T"; "label_" for a number.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns row `index`, the same one at every call."""
    ...

  def padding(self) -> dict[str, np.ndarray]:
    """Returns a row that no loss counts, to fill up the last batch."""
    ...

  def shapes(self) -> dict[str, ArrayShape]:
    """The shape and dtype of every array of a row."""
    return {key: ArrayShape(x.shape, x.dtype) for key, x in self.padding().items()}

  def drawn(self, index: int, seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns row `index` for training; what is random in it depends on `seed` alone.

    `seed` is for numpy.random.default_rng. Without randomness it is `self[index]`.
    """
    return self[index]

  def groups(self) -> list[tuple[int, float]]:
    """(number of rows, share of a batch) of the groups that are shuffled apart.

    The groups of a mixture are its sources, in the order of the rows.
    """
    return [(len(self), 1.0)]


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of row by its name."""

  module: ModuleType
  number: tuple[int, ...] = ()  # (10,) for "cooccurrence-10"

  @property
  def order(self) -> str:
    """ "shuffled" or "carried"; see the top of this file."""
    return self.module.ORDER

  @property
  def holds(self) -> str:
    """ "text", "documents" or "counts"; see the top of this file."""
    return self.module.HOLDS

  def shapes(self, seq: int) -> dict[str, ArrayShape]:
    """The arrays of one row of `seq` positions; needs no data."""
    return self.module.shapes(seq, *self.number)

  def rows(self, corpus, split: str, seq: int) -> Rows:
    """The rows of a split of a lm.data.corpus.reader.Corpus."""
    return self.module.rows(corpus, split, seq, *self.number)


def kind(name: str) -> Kind:
  """Returns the kind of a name such as "concat" or "cooccurrence-10".

  Raises Mistake if there is none, or its number is missing or out of range.
  """
  stem, number = lookup.numbered(name)
  one_of("rows", stem, [n for n in lookup.names(__name__) if n != "corrupt"])
  module = lookup.find(__name__, stem)
  assert module.ORDER in ORDERS, f"{module.__name__}.ORDER = {module.ORDER!r}"
  limits = getattr(module, "NUMBER", None)
  if limits is None and number is not None:
    raise Mistake(f"rows {name!r}; {stem!r} takes no number: leave out -{number}")
  if limits is None:
    return Kind(module)
  least, most = limits
  if number is None or not least <= number <= most:
    raise Mistake(f"rows {name!r}; wanted {stem}-N with N from {least} to {most}")
  return Kind(module, (number,))


def text_shapes(seq: int) -> dict[str, ArrayShape]:
  """The three arrays of a row of text: inputs, targets one further, loss weights."""
  ids = ArrayShape((seq,), np.dtype(np.int32))
  weights = ArrayShape((seq,), np.dtype(np.float32))
  return {"tokens_T": ids, "targets_T": ids, "weights_T": weights}


def empty_row(seq: int, pad: int) -> dict[str, np.ndarray]:
  """A row of `text_shapes` that holds padding alone: weight 0."""
  row = {key: np.zeros(*array) for key, array in text_shapes(seq).items()}
  row["tokens_T"][:] = row["targets_T"][:] = pad
  return row


def pad_id(tokenizer) -> int:
  """The id that fills a row; a tokenizer without one is padded with its eos."""
  return tokenizer.eos if tokenizer.pad is None else tokenizer.pad


def check_length(corpus, split: str, seq: int, *, least: int):
  """Raises Mistake when a split has fewer than `least` tokens."""
  size = len(corpus.tokens(split))
  if size < least:
    raise Mistake(
      f"split {split!r} of {corpus.source} has {size} tokens; wanted at least {least} "
      f"for rows of {seq}: give more text or a smaller seq"
    )


class Joined(Rows):
  """The rows of several sources, one source after another.

  `shares` are the sources' shares of a training batch, which add up to 1.
  """

  def __init__(self, parts: list[Rows], shares: list[float]):
    self._parts, self._shares = parts, shares
    self._ends = np.cumsum([len(part) for part in parts])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> dict:
    part, offset = self._locate(index)
    return part[offset]

  def drawn(self, index: int, seed: tuple[int, ...]) -> dict:
    part, offset = self._locate(index)
    return part.drawn(offset, seed)

  def padding(self) -> dict:
    return self._parts[0].padding()

  def groups(self) -> list[tuple[int, float]]:
    return [(len(p), s) for p, s in zip(self._parts, self._shares, strict=True)]

  def _locate(self, index: int) -> tuple[Rows, int]:
    """The source that row `index` belongs to, and the row's index in it."""
    if not 0 <= index < len(self):
      raise IndexError(f"row {index} of {len(self)}")
    number = int(np.searchsorted(self._ends, index, side="right"))
    start = int(self._ends[number - 1]) if number else 0
    return self._parts[number], int(index) - start
