"""Regression on texts or pairs of them: graded sentiment, the similarity of sentences.

  cfg.task = dict(name="regress", train="tsv:pairs.tsv", text="first", pair="second")

The number is the one output of the head "classes", trained by its squared error: the
same as num_labels=1 of Hugging Face's.
"""

import dataclasses
import math

import numpy as np

from lm.errors import Mistake
from lm.scores import numbers
from lm.tasks._texts import OfTexts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(OfTexts):
  """The number in a column `value` for the text, or the two, of a record."""

  value: str = "score"  # the column with the number

  objective = "regression"
  NUMBER = ("score_", "float32")

  def columns(self) -> dict[str, str]:
    return super().columns() | {"score": self.value}

  def resolved(self, splits) -> "Task":
    """Returns the task itself; Mistake for a value that is no number."""
    for split in ("train", "heldout"):
      for record in getattr(splits, split):
        if not _is_number(record["score"]):
          raise Mistake(
            f"{self.value}={record['score']!r} in split {split!r} is no number; wanted "
            "one for every text"
          )
    return self

  def fields(self) -> dict:
    """Returns the fields of a model with one output."""
    return {"head": "classes", "classes": 1}

  def number(self, record: dict) -> float:
    return float(record.get("score", 0))

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"score"} for each record."""
    rows = self.rows(records, tokenizer, seq=seq)
    return [
      {"score": float(score)} for score in self.outputs(_first, model, params, rows)
    ]

  def shown(self, answer: dict) -> str:
    return f"{answer['score']:.3f}"

  def score(self, answers, records) -> dict:
    """Returns the correlations and the error of the numbers; see lm.scores.numbers."""
    actual_R = np.array([float(record["score"]) for record in records])
    predicted_R = np.array([answer["score"] for answer in answers])
    return numbers.regression(actual_R, predicted_R)


def _is_number(value) -> bool:
  try:
    return math.isfinite(float(value))
  except (TypeError, ValueError):
    return False


def _first(logits_BPC):
  """Returns the only output of each text."""
  return logits_BPC[..., 0]
