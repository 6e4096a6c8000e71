"""The dataset of a task: its records in memory, as rows of ids."""

import functools
import hashlib
import json

import numpy as np

from lm import tasks
from lm.data import records, tokenizers
from lm.data.rows import Rows
from lm.errors import Mistake


class Examples:
  """A lm.data.Dataset of the records of a task.

  `task` knows its classes by now, and `splits` are the records.
  """

  order = "shuffled"

  def __init__(self, task, splits: records.Splits, tokenizer):
    self.task, self.splits, self.tokenizer = task, splits, tokenizer

  @property
  def digest(self) -> str:
    """A sha256 of the task, its records and the tokenizer."""
    digest = hashlib.sha256(self.tokenizer.digest.encode())
    digest.update(json.dumps(tasks.options(self.task)).encode())
    for split in (self.splits.train, self.splits.heldout):
      digest.update(json.dumps(split).encode())
    return digest.hexdigest()

  @property
  def manifest(self) -> dict:
    """{"splits": {split: {"documents", "tokens", "bytes"}}}, of whole texts."""
    return {"splits": {split: self._sizes(split) for split in ("train", "heldout")}}

  @functools.cache  # noqa: B019 - one dataset lives as long as its process
  def rows(self, split: str, seq: int) -> Rows:
    """The rows of a split, `seq` positions each."""
    return self.task.rows(getattr(self.splits, split), self.tokenizer, seq)

  def counts(self, split: str) -> np.ndarray:
    """The number of occurrences of each id in a split."""
    counts_V = np.zeros(self.tokenizer.size, np.int64)
    for ids in self._ids(split):
      counts_V += np.bincount(ids, minlength=counts_V.size)
    return counts_V

  def _sizes(self, split: str) -> dict:
    texts = [record["text"] for record in getattr(self.splits, split)]
    return {
      "documents": len(texts),
      "tokens": sum(map(len, self._ids(split))),
      "bytes": sum(len(text.encode()) for text in texts),
    }

  @functools.cache  # noqa: B019 - one dataset lives as long as its process
  def _ids(self, split: str) -> list:
    return [self.tokenizer.prompt(r["text"]) for r in getattr(self.splits, split)]


def read(task, *, cache) -> records.Splits:
  """Returns the records of a Task."""
  columns = tuple(task.columns().items())
  return records.read(task.train, task.heldout, columns, cache=str(cache))


def prepare(task, data, *, seq: int, log=print) -> Examples:
  """Returns the dataset of a Task; `data` is the lm.data.Data with its tokenizer.

  A learnt tokenizer is learnt from the training texts. `log` gets a line about what was
  left out and cut. Raises Mistake for tables that do not fit the task.
  """
  splits = read(task, cache=data.cache)
  for split, rest in (("train", splits.train), ("heldout", splits.heldout)):
    if not rest:
      raise Mistake(
        f"no record is left in split {split!r} of {task.train}; give more of them, or "
        "the table to hold out: --config.task.heldout=TABLE"
      )
  texts = [record["text"] for record in splits.train]
  tokenizer = tokenizers.make(data.tokenizer, texts)
  dataset = Examples(task.resolved(splits), splits, tokenizer)
  for line in _notes(dataset, seq):
    log(line)
  return dataset


def _notes(dataset: Examples, seq: int):
  left_out = dataset.splits.left_out
  if left_out:
    listed = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    yield f"records left out: {listed}"
  yield from dataset.task.notes(dataset.splits)
  for split in ("train", "heldout"):
    lengths = np.array([len(ids) for ids in dataset._ids(split)])
    if cut := int((lengths > seq).sum()):
      yield f"{split}: {cut:,} of {lengths.size:,} texts are cut to seq={seq} tokens"
    num_rows = len(dataset.rows(split, seq))
    filled = np.minimum(lengths, seq).sum() / (num_rows * seq)
    yield (
      f"{split}: {lengths.size:,} texts in {num_rows:,} rows, of which "
      f"{100 * (1 - filled):.0f} % are padding"
    )
