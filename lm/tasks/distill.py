"""Distillation: a classifier learnt from a teacher's probabilities of the classes.

  cfg.task = dict(name="distill", train="csv:reviews.csv")
  cfg.teacher = "runs/large"

The teacher has a tokenizer of its own, and texts need no labels: with `labelled` and
`unlabelled`, see lm.tasks.few_labels.
"""

import dataclasses

from lm.data.packed import EXAMPLE, Packed
from lm.tasks._scarce import Scarce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(Scarce):
  """The classes of texts as a teacher sees them."""

  objective = "distill_classes"

  def layout(self, seq: int) -> dict:
    layout = super().layout(seq)
    return layout | {"dtypes": layout["dtypes"] | {EXAMPLE: "int32"}}

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of all records, numbered for the teacher's answers."""
    return super().rows(records, tokenizer, seq=seq).numbered()
