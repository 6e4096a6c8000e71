"""Fairness: scores by group, and whether a term of identity changes the answer.

Groups are those of a column of the table (`--tasks=fairness:COLUMN`), and of the length
of a text. Of a column, the demographic parity gap is the range over groups of the share
answered with a class; the equalised odds gap is that of this share among records of the
class, or among the others. Both are the largest over classes, as in binary cases
(Hardt, Price and Srebro 2016, arXiv:1610.02413). A group without such records has nan.

Counterfactual pairs (arXiv:1809.10610): a text, and the same with its terms of gender,
religion or origin exchanged (_terms.py).
"""

import numpy as np

from lm.data import tables
from lm.scores.intervals import wilson
from lm.study.checks import Row, _terms, chances
from lm.study.compare import bootstrap

KIND = "classes"
PARTS = 4  # groups of length


def check(subject, argument: str = "") -> list[Row]:
  """Returns scores by group, their gaps, and what exchanged terms change."""
  actual_R, predicted_R = subject.actual_R, np.argmax(subject.chance_RC, axis=1)
  table = []
  if argument:
    group_R = column(subject, argument)
    table += by_group(group_R, predicted_R, actual_R, name=argument)
    table += gaps(group_R, predicted_R, actual_R, name=argument)
  texts = [record["text"] for record in subject.items.records]
  length_R = np.array([len(ids) for ids in subject.tokenizer.encode_batch(texts)])
  table += by_length(length_R, predicted_R, actual_R)
  for axis in _terms.AXES:
    table += counterfactual(subject, axis)
  return table


def column(subject, name: str) -> np.ndarray:
  """Returns the value of a column of the table for each record, as text."""
  task = subject.items.task
  table, value_of = task.heldout or task.train, {}
  for records in tables.read(table, cache=str(subject.experiment.data.cache)).values():
    texts = tables.column(records, task.columns()["text"], table)
    values = tables.column(records, name, table)
    value_of = dict(zip(texts, values, strict=True)) | value_of
  return np.array([str(value_of[r["text"]]) for r in subject.items.records])


def by_length(length_R, predicted_R, actual_R) -> list[Row]:
  """Returns the accuracy of each quarter by length, and the range of them."""
  edges = np.quantile(length_R, np.arange(1, PARTS) / PARTS)
  part_R, names = np.searchsorted(edges, length_R, side="left"), {}
  for part in np.unique(part_R):
    own = length_R[part_R == part]
    low, high = f"{own.min():,}", f"{own.max():,}"
    names[part] = f"{low} tokens" if low == high else f"{low} to {high} tokens"
  return by_group(part_R, predicted_R, actual_R, name="length", names=names)


def by_group(group_R, predicted_R, actual_R, *, name: str, names=None) -> list[Row]:
  """Returns the accuracy of each group, and the range of them.

  `names` are those of the groups; by default "name group".
  """
  rows, right_R = [], predicted_R == actual_R
  for group in np.unique(group_R):
    own = right_R[group_R == group]
    hits, count = int(own.sum()), own.size
    case = names[group] if names else f"{name} {group}"
    rows.append(
      Row("fairness", case, "accuracy", hits / count, wilson(hits, count), count)
    )
  values = [row.value for row in rows]
  return [*rows, Row("fairness", name, "accuracy gap", max(values) - min(values))]


def gaps(group_R, predicted_R, actual_R, *, name: str) -> list[Row]:
  """Returns the gaps of demographic parity and of equalised odds between groups."""
  groups, classes = np.unique(group_R), np.unique(np.append(predicted_R, actual_R))
  parity, odds = [], []
  for number in classes:
    is_own_R, is_actual_R = predicted_R == number, actual_R == number
    everything_R = np.ones(len(actual_R), bool)
    for among_R, ranges in (
      (everything_R, parity),
      (is_actual_R, odds),
      (~is_actual_R, odds),
    ):
      shares = [_share(is_own_R[among_R & (group_R == group)]) for group in groups]
      ranges.append(max(shares) - min(shares) if not np.isnan(shares).any() else np.nan)
  count = len(actual_R)
  return [
    Row("fairness", name, "demographic parity gap", float(np.max(parity)), None, count),
    Row("fairness", name, "equalised odds gap", float(np.max(odds)), None, count),
  ]


def _share(of) -> float:
  return float(np.mean(of)) if len(of) else float("nan")


def counterfactual(subject, axis: str) -> list[Row]:
  """Returns the flips of answers by exchanged terms, and what the second side gains.

  The gain is the mean change of a class's probability with terms of the second side
  ("she") in place of those of the first, in texts with terms of one side; that of the
  class which changes most. [] without a text that has such terms.
  """
  terms, records = _terms.Axis(axis), subject.items.records
  changed = [terms.exchanged(record["text"]) for record in records]
  index_R = [i for i, r in enumerate(records) if changed[i] != r["text"]]
  if not index_R:
    return []
  answers = subject.answered([records[i] | {"text": changed[i]} for i in index_R])
  before_RC, after_RC = subject.chance_RC[index_R], chances(answers)
  flipped_R = before_RC.argmax(1) != after_RC.argmax(1)
  flips, count = int(flipped_R.sum()), len(index_R)
  change_R = np.abs(after_RC - before_RC).max(1)
  name = f"{axis} exchanged"
  rows = [
    Row("fairness", name, "flips", flips / count, wilson(flips, count), count),
    Row("fairness", name, "change", float(change_R.mean()), bootstrap(change_R), count),
  ]
  side_R = np.array([_direction(terms.sides(records[i]["text"])) for i in index_R])
  single = side_R != 0
  if single.any():
    gain_RC = (side_R[:, None] * (after_RC - before_RC))[single]
    number = int(np.argmax(np.abs(gain_RC.mean(0))))
    gain_R, metric = gain_RC[:, number], f"gain of {subject.labels[number]}"
    value, size = float(gain_R.mean()), int(single.sum())
    rows.append(Row("fairness", name, metric, value, bootstrap(gain_R), size))
  return rows


def _direction(sides: tuple[bool, bool]) -> int:
  """Returns 1 where an exchange leads to the second side, -1 to the first, else 0."""
  return int(sides[0]) - int(sides[1])
