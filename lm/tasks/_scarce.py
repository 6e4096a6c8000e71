"""Classification with few labels and many texts without one: a base of tasks."""

import collections
import dataclasses

from lm.data import tables
from lm.data.records import normal
from lm.data.sources._records import hash64
from lm.errors import Mistake, not_negative
from lm.tasks import classify

ORIGIN = "origin"  # the key of a record that has no label of its own
UNLABELLED, TAUGHT = "unlabelled", "taught"  # its values: without one, and a teacher's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scarce(classify.Task):
  """The classes in a column `label`, known for some of the texts."""

  labelled: int = 0  # labels of `train` that are used, as many of each class; 0: all
  unlabelled: str = ""  # a table with more texts, in the column `text`

  learns = True

  def __post_init__(self):
    super().__post_init__()
    not_negative(self, "labelled")
    if self.unlabelled:
      tables.resolve(self.unlabelled)

  def extended(self, splits, *, cache):
    """Returns the splits with texts of which no label is read, each one once.

    Those are the training records beyond `labelled`, taken by hash, and the texts of
    `unlabelled` that are neither held out nor in `train`.
    """
    left_out, records = collections.Counter(splits.left_out), self._chosen(splits.train)
    seen = {normal(r["text"]) for r in (*records, *splits.heldout)}
    if self.unlabelled:
      given = tables.read(self.unlabelled, cache=cache)["train"]
      for text in tables.column(given, self.text, self.unlabelled):
        if text is None or not str(text).strip():
          left_out[f"no {self.text}"] += 1
        elif normal(text) in seen:
          left_out["held out, or there before"] += 1
        else:
          seen.add(normal(text))
          records.append({"text": text, ORIGIN: UNLABELLED})
    return dataclasses.replace(splits, train=records, left_out=dict(left_out))

  def _chosen(self, records) -> list[dict]:
    """Returns the records, without their labels but for `labelled` of them."""
    if not self.labelled:
      return list(records)
    by_class = collections.defaultdict(list)
    for record in sorted(records, key=_hash):
      by_class[str(record["label"])].append(record)
    classes, kept = sorted(by_class), []
    for number, name in enumerate(classes):
      share = (self.labelled + number) // len(classes)
      if share > len(by_class[name]):
        raise Mistake(
          f"task.labelled={self.labelled} takes {share} of class {name}, and "
          f"{self.train} has {len(by_class[name])}; wanted fewer"
        )
      kept += by_class[name][:share]
    chosen = set(map(_hash, kept))
    return [
      record
      if _hash(record) in chosen
      else {"text": record["text"], ORIGIN: UNLABELLED}
      for record in records
    ]

  def resolved(self, splits) -> "Scarce":
    return super().resolved(_labelled(splits))

  def notes(self, splits) -> list[str]:
    """Returns how many texts have a label, and what of the labels is missing."""
    num = len(_labelled(splits).train)
    line = f"labels: {num:,} of {len(splits.train):,} training texts have one"
    return [line, *super().notes(_labelled(splits))]

  def check_teacher(self, teacher) -> None:
    """Raises Mistake for a teacher that names other classes, or none."""
    names = getattr(teacher.task, "labels", ())
    if teacher.model.output != "classes" or set(names) != set(map(str, self.labels)):
      classes = f"classes {', '.join(names)}" if names else "no classes"
      raise Mistake(
        f"teacher={teacher.path} names {classes}; wanted those of the task, "
        f"{', '.join(map(str, self.labels))}"
      )


def _labelled(splits):
  """Returns the splits with the records alone that have a label of their own."""
  train = [record for record in splits.train if ORIGIN not in record]
  return dataclasses.replace(splits, train=train)


def _hash(record: dict) -> int:
  return hash64(normal(record["text"]).encode())
