"""Self-training: few labels, and more of them by a teacher that learnt from the few.

  cfg.task = dict(name="few_labels", train="csv:reviews.csv", labelled=100)
  cfg.teacher = "runs/from_the_few"

Yarowsky 1995; confidence and balanced classes as in arXiv:1911.04252, section 2.
Without a teacher, a model learns from the few labels alone: the teacher of the next.
"""

import collections
import dataclasses

from lm.data.rows import Joined
from lm.errors import Mistake
from lm.tasks._scarce import ORIGIN, TAUGHT, Scarce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Scarce):
  """The classes of texts, of which a teacher labels those that it is sure of."""

  threshold: float = 0.9  # the least probability of a teacher's label
  gold: float = 0.25  # the share of rows with labels that are not a teacher's

  objective = "consistency"

  def __post_init__(self):
    super().__post_init__()
    if not 0 < self.gold < 1:
      raise Mistake(f"task.gold={self.gold}; wanted more than 0, less than 1")
    if self.threshold <= 0:
      raise Mistake(f"task.threshold={self.threshold}; wanted more than 0")

  def taught(self, splits, teacher, log=print):
    """Returns the splits with a teacher's labels of training texts without one.

    A label is kept where its probability is the threshold or more, and of each class as
    many as of the rarest, the surest ones. `log` gets the count of each class.
    """
    places = [i for i, record in enumerate(splits.train) if ORIGIN in record]
    answers = teacher.answers([splits.train[i] for i in places]) if places else []
    sure = collections.defaultdict(list)
    for place, answer in zip(places, answers, strict=True):
      if answer["probability"] >= self.threshold:
        sure[answer["label"]].append((-answer["probability"], place))
    num, records = min(len(sure[label]) for label in self.labels), list(splits.train)
    for label in self.labels:
      for _, place in sorted(sure[label])[:num]:
        records[place] = {
          "text": records[place]["text"],
          "label": label,
          ORIGIN: TAUGHT,
        }
    counts = ", ".join(f"{len(sure[label]):,} {label}" for label in self.labels)
    log(
      f"labels of {teacher.path}: {counts} at {self.threshold} or more of "
      f"{len(places):,} texts without one; {num:,} of each class are kept"
    )
    return dataclasses.replace(splits, train=records)

  def rows(self, records, tokenizer, *, seq: int):
    """Returns the rows of records, those with a teacher's labels apart from the others.

    Each batch then has rows of both, by the share `gold`.
    """
    parts = collections.defaultdict(list)
    for record in records:
      parts[record.get(ORIGIN, "")].append(record)
    own, taught = (
      super(Task, self).rows(parts[origin], tokenizer, seq=seq)
      if parts[origin]
      else None
      for origin in ("", TAUGHT)
    )
    return own if taught is None else Mixed([own, taught], [self.gold, 1 - self.gold])


class Mixed(Joined):
  """Rows of two kinds, with the counts of lm.data.packed.Packed for both."""

  def __init__(self, parts, shares):
    super().__init__(parts, shares)
    self.num_cut = sum(part.num_cut for part in parts)
    self.num_left_out = 0
    shares_of_rows = [len(part) * part.padding_share for part in parts]
    self.padding_share = sum(shares_of_rows) / len(self)
