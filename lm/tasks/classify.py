"""Classification of texts: sentiment, topics, any column of labels.

  cfg.task = dict(name="classify", train="csv:reviews.csv", label="stars")

The class is read from the model's output head "classes": at the first token of an
encoder (BERT), at the last one of a decoder or an LSTM.
"""

import collections
import dataclasses

import jax
import numpy as np

from lm import tasks
from lm.data.packed import Packed, cut
from lm.data.rows import pad_id
from lm.errors import Mistake
from lm.scores import classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The classes in a column `label` for the texts in a column `text`."""

  text: str = "text"  # the column with the text
  label: str = "label"  # the column with its class
  labels: tuple = ()  # the classes in their order; by default those of `train`, sorted

  objective = "classify"

  def __post_init__(self):
    if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
      raise Mistake(f"task.labels={self.labels}; wanted two classes or more, each once")

  def columns(self) -> dict[str, str]:
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

  def layout(self, seq: int) -> dict:
    return dict(sizes={"T": seq}, dtypes={"tokens_T": "int32", "label_": "int32"})

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of records; one without a label, to be answered, has class 0."""
    number = {label: index for index, label in enumerate(self.labels)}
    ids = [tokenizer.prompt(record["text"]) for record in records]
    examples = [
      {"tokens_T": cut(x, seq), "label_": number[str(r.get("label", self.labels[0]))]}
      for x, r in zip(ids, records, strict=True)
    ]
    num_cut = sum(len(x) > seq for x in ids)
    return Packed(examples, **self.layout(seq), pad=pad_id(tokenizer), num_cut=num_cut)

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"label", "probability", "probabilities"} for each record."""
    rows, answers = self.rows(records, tokenizer, seq=seq), {}

    def probabilities(params, batch):
      segments_BT, variables = batch["segments_BT"], {"params": params}
      inputs = dict(segments_BT=segments_BT, method="features")
      x_BTD = model.apply(variables, batch["tokens_BT"], **inputs).x_BTD
      inputs = dict(num=batch["label_BP"].shape[1], method="classify")
      return jax.nn.softmax(model.apply(variables, x_BTD, segments_BT, **inputs))

    for example, _, place, chance_PC in tasks.outputs(probabilities, params, rows):
      answers[example] = self._answer(chance_PC[place])
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
    """Returns accuracy, macro F1 and their intervals; see lm.scores.classes."""
    number = {label: index for index, label in enumerate(self.labels)}
    actual_R = np.array([number[str(record["label"])] for record in records])
    predicted_R = np.array([number[answer["label"]] for answer in answers])
    return classes.classification(actual_R, predicted_R, classes=len(self.labels))
