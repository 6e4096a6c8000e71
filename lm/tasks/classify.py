"""Classification of texts: sentiment, topics, any column of labels.

  cfg.task = dict(name="classify", train="csv:reviews.csv", label="stars")

The class is read from the model's output head "classes": at the first token of an
encoder (BERT), at the last one of a decoder or an LSTM.
"""

import collections
import dataclasses

import jax
import numpy as np

from lm.data.labels import PackedLabels, labelled
from lm.data.loader import Loader
from lm.data.rows import ArrayShape
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.tasks import scores

BATCH = 8  # rows at a time, for answers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """The classes in a column `label` for the texts in a column `text`."""

  train: str  # a table of lm/data/tables, such as jsonl:PATH, csv:PATH, vader:movies
  heldout: str = ""  # another one; by default the table's own, or a tenth of `train`
  text: str = "text"  # the column with the text
  label: str = "label"  # the column with its class
  labels: tuple = ()  # the classes in their order; by default those of `train`, sorted

  objective = "classify"

  def __post_init__(self):
    if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
      raise Mistake(f"task.labels={self.labels}; wanted two classes or more, each once")

  def columns(self) -> dict[str, str]:
    """Returns {"text": ..., "label": ...}, the names of the columns in the tables."""
    return {"text": self.text, "label": self.label}

  def resolved(self, splits) -> "Task":
    """Returns the task with the classes of the training records.

    Raises Mistake for fewer than two, and for a label that is none of them.
    """
    counts = {
      split: collections.Counter(str(r["label"]) for r in getattr(splits, split))
      for split in ("train", "heldout")
    }
    labels = tuple(map(str, self.labels)) or tuple(sorted(counts["train"]))
    for split, count in counts.items():
      if others := sorted(set(count) - set(labels)):
        raise Mistake(
          f"{self.label}={others[0]!r} in split {split!r} is none of the classes "
          f"{', '.join(labels)}; name all of them in task.labels"
        )
    if len(counts["train"]) < 2:
      raise Mistake(
        f"column {self.label!r} of {self.train} has one class, {labels[0]!r}; wanted "
        "two or more"
      )
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

  def shapes(self, seq: int) -> dict[str, ArrayShape]:
    """Returns the arrays of a row of `seq` positions."""
    return PackedLabels([[0]], [0], seq=seq, pad=0).shapes()

  def rows(self, records, tokenizer, seq: int) -> PackedLabels:
    """Returns the rows of records; one without a label, to be answered, has class 0."""
    texts = [record["text"] for record in records]
    labels = [self.labels.index(str(r.get("label", self.labels[0]))) for r in records]
    return labelled(texts, labels, tokenizer, seq=seq, packed=True)

  def answers(self, model, params, rows) -> list[dict]:
    """Returns {"label", "probability", "probabilities"} for each record of the rows."""

    def probabilities(params, tokens_BT, segments_BT):
      inputs = dict(segments_BT=segments_BT, method="features")
      x_BTD = model.apply({"params": params}, tokens_BT, **inputs).x_BTD
      inputs = dict(num=rows.shapes()["label_P"].shape[0], method="classify")
      logits_BPC = model.apply({"params": params}, x_BTD, segments_BT, **inputs)
      return jax.nn.softmax(logits_BPC)

    step, parts = jax.jit(probabilities), []
    mesh = make_mesh(jax.devices()[:1])
    loader = Loader(rows, batch=min(BATCH, len(rows)), mesh=mesh, order="once")
    for batch in loader.prefetch(range(len(loader))):
      parts.append(step(params, batch["tokens_BT"], batch["segments_BT"]))
    answers = {}
    for chance_PC, numbers in zip(np.concatenate(parts), rows.members, strict=False):
      for chance_C, number in zip(chance_PC, numbers, strict=False):
        answers[int(number)] = self._answer(chance_C)
    return [answers[number] for number in range(len(answers))]

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
    """Returns accuracy, macro F1 and their intervals; see `scores.classification`."""
    number = {label: index for index, label in enumerate(self.labels)}
    actual_R = np.array([number[str(record["label"])] for record in records])
    predicted_R = np.array([number[answer["label"]] for answer in answers])
    return scores.classification(actual_R, predicted_R, classes=len(self.labels))
