"""Classification of texts: sentiment, topics, any column of labels.

  cfg.task = dict(name="classify", train="csv:reviews.csv", label="stars")

The class is read from the model's output head "classes": at the first token of an
encoder (BERT), at the last one of a decoder or an LSTM.
"""

import dataclasses

import jax
import numpy as np

from lm.scores import classes
from lm.tasks import _classes
from lm.tasks._texts import OfTexts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(OfTexts):
  """The classes in a column `label` for the text, or the two, of a record."""

  label: str = "label"  # the column with its class
  labels: tuple = ()  # the classes in their order; by default those of `train`, sorted

  objective = "classify"

  def __post_init__(self):
    super().__post_init__()
    _classes.check(self.labels)

  def columns(self) -> dict[str, str]:
    return super().columns() | {"label": self.label}

  def resolved(self, splits) -> "Task":
    """Returns the task with the classes of the training records.

    Raises Mistake for fewer than two, and for a label that is none of them.
    """
    values = {
      split: {str(record["label"]) for record in getattr(splits, split)}
      for split in ("train", "heldout")
    }
    names = dict(column=self.label, table=self.train)
    labels = _classes.resolved(self.labels, values, **names)
    return dataclasses.replace(self, labels=labels)

  def notes(self, splits) -> list[str]:
    """Returns a line for each split that lacks a class."""
    lines = []
    for split in ("train", "heldout"):
      present = {str(record["label"]) for record in getattr(splits, split)}
      if missing := [label for label in self.labels if label not in present]:
        lines.append(f"warning: {split} has no record of {', '.join(missing)}")
    return lines

  def fields(self) -> dict:
    """Returns the fields of a model with an output for every class."""
    return {"head": "classes", "classes": len(self.labels)}

  def number(self, record: dict) -> int:
    return self.labels.index(str(record["label"])) if "label" in record else 0

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"label", "probability", "probabilities"} for each record."""
    rows = self.rows(records, tokenizer, seq=seq)
    chances = self.outputs(jax.nn.softmax, model, params, rows)
    return [self._answer(chance_C) for chance_C in chances]

  def _answer(self, chance_C) -> dict:
    best = int(np.argmax(chance_C))
    return {
      "label": self.labels[best],
      "probability": float(chance_C[best]),
      "probabilities": dict(zip(self.labels, map(float, chance_C), strict=True)),
    }

  def shown(self, answer: dict) -> str:
    """Returns a line for people: "positive 0.983  negative 0.017"."""
    chances = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    return "  ".join(f"{label} {chance:.3f}" for label, chance in chances)

  def score(self, answers, records) -> dict:
    """Returns accuracy, macro F1 and their intervals; see lm.scores.classes."""
    number = {label: index for index, label in enumerate(self.labels)}
    actual_R = np.array([number[str(record["label"])] for record in records])
    predicted_R = np.array([number[answer["label"]] for answer in answers])
    return classes.classification(actual_R, predicted_R, classes=len(self.labels))
