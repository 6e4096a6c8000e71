"""The dataset of a task (lm/tasks): its records in memory, as rows of ids."""

import dataclasses
import functools
import hashlib
import json

import numpy as np

from lm.data import records, tokenizers
from lm.data.packed import Packed
from lm.errors import Mistake


class Examples:
  """A lm.data.Dataset of the records of a task.

  `task` knows by now what its records tell, and `splits` are the records.
  """

  order = "shuffled"

  def __init__(self, task, splits: records.Splits, tokenizer):
    self.task, self.splits, self.tokenizer = task, splits, tokenizer

  @property
  def digest(self) -> str:
    """A sha256 of the task, its records and the tokenizer."""
    digest = hashlib.sha256(self.tokenizer.digest.encode())
    options = {"name": type(self.task).__module__.rpartition(".")[2]}
    options |= dataclasses.asdict(self.task)
    digest.update(json.dumps(options).encode())
    for split in (self.splits.train, self.splits.heldout):
      digest.update(json.dumps(split).encode())
    return digest.hexdigest()

  @property
  def manifest(self) -> dict:
    """{"splits": {split: {"documents", "tokens", "bytes"}}}, of whole texts."""
    return {"splits": {split: self._sizes(split) for split in ("train", "heldout")}}

  @functools.cache  # noqa: B019 - one dataset lives as long as its process
  def rows(self, split: str, seq: int) -> Packed:
    """The rows of a split, `seq` positions each."""
    return self.task.rows(getattr(self.splits, split), self.tokenizer, seq=seq)

  def texts(self, split: str) -> list[str]:
    """All texts of the records of a split."""
    return texts(self.task, getattr(self.splits, split))

  def counts(self, split: str) -> np.ndarray:
    """The number of occurrences of each id in a split."""
    counts_V = np.zeros(self.tokenizer.size, np.int64)
    for ids in self._ids(split):
      counts_V += np.bincount(ids, minlength=counts_V.size)
    return counts_V

  def _sizes(self, split: str) -> dict:
    return {
      "documents": len(getattr(self.splits, split)),
      "tokens": sum(map(len, self._ids(split))),
      "bytes": sum(len(text.encode()) for text in self.texts(split)),
    }

  @functools.cache  # noqa: B019 - one dataset lives as long as its process
  def _ids(self, split: str) -> list:
    return self.tokenizer.encode_batch(self.texts(split))


def texts(task, some_records) -> list[str]:
  """Returns all texts of some records of a task."""
  return [text for record in some_records for text in task.texts(record)]


def read(task, *, cache) -> records.Splits:
  """Returns the records of a Task."""
  splits = records.read(
    task.train, task.heldout, task.columns(), key=task.key, cache=str(cache)
  )
  return task.extended(splits, cache=str(cache))


def prepare(task, data, *, seq: int, teacher=None, begun=None, log=print) -> Examples:
  """Returns the dataset of a Task; `data` is the lm.data.Data with its tokenizer.

  A learnt tokenizer is learnt from the training texts. A `teacher` says more of them.
  `begun(tokenizer)` returns one to use in its place, which begins texts otherwise.
  `log` gets a line about what was left out and cut. Raises Mistake for tables that do
  not fit the task.
  """
  splits = read(task, cache=data.cache)
  for split, rest in (("train", splits.train), ("heldout", splits.heldout)):
    if not rest:
      raise Mistake(
        f"no record is left in split {split!r} of {task.train}; give more of them, or "
        "the table to hold out: --config.task.heldout=TABLE"
      )
  tokenizer = tokenizers.make(data.tokenizer, texts(task, splits.train))
  tokenizer = begun(tokenizer) if begun else tokenizer
  task = task.resolved(splits)
  if teacher:
    splits = task.taught(splits, teacher, log)
  dataset = Examples(task, splits, tokenizer)
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
    total, rows = len(getattr(dataset.splits, split)), dataset.rows(split, seq)
    if rows.num_cut:
      cut = f"{rows.num_cut:,} of {total:,} records are cut to seq={seq} tokens"
      yield f"{split}: {cut}"
    if rows.num_left_out:
      yield (
        f"{split}: {rows.num_left_out:,} of {total:,} records are left out: their "
        f"prompts alone fill seq={seq}"
      )
    yield (
      f"{split}: {total:,} records in {len(rows):,} rows, of which "
      f"{100 * rows.padding_share:.0f} % are padding"
    )
