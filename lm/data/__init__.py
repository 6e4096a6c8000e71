"""Bytes to batches: sources, cleaning, tokenizers, corpora, rows, and the loader.

    data = lm.data.Data(source="shakespeare", tokenizer="bpe-4096")
    dataset = lm.data.prepare(data, seq=256)
    rows = dataset.rows("train", seq=256)
    loader = Loader(rows, batch=16, mesh=mesh, order=dataset.order, seed=0)

Each folder here is a stage and states its protocol at its top: `sources` gives records,
`clean` changes or drops them, `tokenizers` make ids of them, `corpus` keeps the ids on
disk, `rows` cuts (and corrupts) them, and `loader` makes batches of rows. Only the
loader uses JAX.
"""

import dataclasses
from typing import Protocol

import numpy as np

from lm.data import clean as cleaning
from lm.data import sources, tokenizers
from lm.data.corpus import dataset, engines
from lm.data.rows import ArrayShape, Kind, Rows, corrupt, kind
from lm.disk import paths
from lm.errors import Mistake

__all__ = [
  "ArrayShape",
  "Data",
  "Dataset",
  "Rows",
  "labelled",
  "prepare",
  "row_shapes",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The description of a dataset; raises Mistake for a value out of range.

  Whatever needs no data is checked here, before hours are spent on preparing them.
  """

  source: str | tuple[str, ...] = ""  # see lm.data.sources; several are mixed
  weights: tuple[float, ...] = ()  # of the sources in a batch, by rows; (): equal ones
  tokenizer: str = "bytes"  # "bytes", "bpe-N", "words-N", or the path of a tokenizer
  rows: str = "concat"  # a file of lm/data/rows
  clean: dict = dataclasses.field(default_factory=dict)  # of lm.data.clean.Rules
  corrupt: dict = dataclasses.field(default_factory=dict)  # see lm.data.rows.corrupt
  cache: str = ".cache/data"  # the folder of prepared data

  def __post_init__(self):
    for source in self.sources:
      sources.resolve(source)
    if self.source != "":
      check_weights(self.weights, len(self.sources))
    tokenizers.check(self.tokenizer)
    object.__setattr__(self, "cache", str(paths.local(self.cache)))  # it is frozen
    cleaning.checked(self.clean)
    if self.order == "carried" and len(self.sources) > 1:
      raise Mistake(
        f"rows={self.rows!r} takes one source, got {len(self.sources)}; use 'concat' "
        "for a mixture"
      )
    corruption = self.corruption
    if corruption and self.kind.holds not in corruption.takes:
      raise Mistake(
        f"corrupt.name={self.corrupt['name']!r} and rows={self.rows!r}; wanted rows "
        f"that hold {' or '.join(corruption.takes)}, such as 'concat'"
      )

  @property
  def sources(self) -> tuple[str, ...]:
    """`source` as a tuple; () for "", where a task has its own data."""
    if self.source == "":
      return ()
    return (self.source,) if isinstance(self.source, str) else tuple(self.source)

  @property
  def shares(self) -> list[float]:
    """The share of each source in a training batch; they add up to 1."""
    weights = self.weights or (1.0,) * len(self.sources)
    return [float(w) / sum(map(float, weights)) for w in weights]

  @property
  def kind(self) -> Kind:
    """The kind of row that `rows` names."""
    return kind(self.rows)

  @property
  def order(self) -> str:
    """The order of rows: "shuffled", or "carried": they continue the last batch's."""
    return self.kind.order

  @property
  def corruption(self) -> "corrupt.Corruption | None":
    """The corruption that `corrupt` describes, or None."""
    return corrupt.make(self.corrupt)


class Dataset(Protocol):
  """Tokenized data in the splits "train" and "heldout"."""

  tokenizer: tokenizers.Tokenizer
  digest: str  # changes with the data and with the tokenizer
  order: str  # of training rows: "shuffled" or "carried"; see lm.data.rows

  def rows(self, split: str, seq: int) -> Rows:
    """The rows of a split, `seq` positions each."""
    ...

  def counts(self, split: str) -> np.ndarray:
    """The number of occurrences of each id in a split."""
    ...


def prepare(data: Data, *, seq: int, engine=engines.HERE, log=print) -> dataset.Corpora:
  """Returns the Dataset of `data`, building under `data.cache` what does not exist yet.

  `engine` runs the tasks of that, see lm.data.corpus.engines; processes of this machine
  by default.

  Another `seq`, `rows` or `corrupt` tokenizes nothing anew. A learnt tokenizer is
  learnt from the cleaned training text of all sources together. Raises Mistake for a
  broken source, and for text too short for one row of `seq` positions.
  """
  row_shapes(data, seq)
  return dataset.prepare(data, seq=seq, engine=engine, log=log)


def row_shapes(data: Data, seq: int) -> dict[str, ArrayShape]:
  """Returns the arrays of a row, {"tokens_T": ArrayShape((seq,), int32), ...}.

  They are those of `Rows.shapes`, and need no data. Raises Mistake for a `seq` that the
  rows or the corruption cannot have.
  """
  if seq < 1:
    raise Mistake(f"seq={seq}; wanted 1 or more")
  shapes, corruption = data.kind.shapes(seq), data.corruption
  return corruption.shapes(shapes, seq) if corruption else shapes


def labelled(texts, labels, tokenizer, *, seq: int) -> Rows:
  """Returns the rows of texts and their classes; see `lm.data.labels.labelled`."""
  from lm.data.labels import labelled

  return labelled(texts, labels, tokenizer, seq=seq)


def check_weights(weights, num: int):
  """Raises Mistake unless there are `num` weights (or none), all finite and above 0."""
  if not num:
    raise Mistake("source=(); wanted the name of a source, or several")
  numbers = [float(w) for w in weights or [1.0] * num]
  if len(numbers) != num or not all(0 < w < float("inf") for w in numbers):
    raise Mistake(
      f"weights={tuple(weights)} for {num} sources; wanted one above 0 for each"
    )
