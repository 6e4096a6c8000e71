"""Checks of a trained model: what a score alone does not say, as rows of one table.

A check is a file here with

  KIND = "classes" or "text"      what it is for: classifiers, or language models
  check(subject, argument) -> [Row]

`subject` is the model with its held-out items, `argument` what followed the name and a
colon in `evaluate --tasks=NAME:ARGUMENT`. Adding the file is registering it.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from lm import lookup
from lm.errors import Mistake
from lm.study import items

ALL = "checks"  # the name of all checks that are for a model
HEADINGS = ("check", "case", "metric", "value", "95 %", "items")


class Row(NamedTuple):
  """One number of a check."""

  check: str
  case: str
  metric: str
  value: float
  interval: tuple[float, float] | None = None  # 95 %
  count: int = 0  # items that it comes from


@dataclasses.dataclass(frozen=True)
class Subject:
  """A model, and the held-out items that it is checked on."""

  model: Any
  params: Any
  tokenizer: Any
  experiment: Any  # lm.train.config.Experiment
  items: items.Items

  @property
  def kind(self) -> str:
    """ "classes", "text", or "" for a model that no check is for."""
    task = self.items.task
    if task is not None:
      return "classes" if task.objective == "classify" else ""
    return "text" if self.experiment.objective == "next_token" else ""

  @property
  def labels(self) -> tuple[str, ...]:
    """The names of the classes."""
    return self.items.task.labels

  @functools.cached_property
  def actual_R(self) -> np.ndarray:
    """The number of the class of each record."""
    number = {label: index for index, label in enumerate(self.labels)}
    return np.array([number[str(r["label"])] for r in self.items.records])

  @functools.cached_property
  def answers(self) -> list[dict]:
    """The answers to the records as they are."""
    return self.answered(self.items.records)

  @property
  def chance_RC(self) -> np.ndarray:
    """The probability of each class, of each record as it is."""
    return chances(self.answers)

  def answered(self, records) -> list[dict]:
    """Returns the answers to other records of the same task."""
    changed = dataclasses.replace(self.items, records=list(records))
    seq = min(self.experiment.seq, self.model.config.context or self.experiment.seq)
    return items.answers(changed, self.model, self.params, self.tokenizer, seq=seq)


def chances(answers) -> np.ndarray:
  """Returns chance_RC of answers with probabilities."""
  return np.array([list(answer["probabilities"].values()) for answer in answers])


def names(kind: str = "") -> list[str]:
  """Returns the names of the checks, or of those for a kind of model."""
  existing = lookup.names(__name__)
  return [n for n in existing if not kind or kind == lookup.find(__name__, n).KIND]


def is_name(name: str) -> bool:
  """Returns True for the name of a check, perhaps with an argument, and for ALL."""
  return name.partition(":")[0] in (ALL, *names())


def resolved(wanted, subject: Subject) -> list[tuple]:
  """Returns the (module, argument) of names, of "name:argument", and of ALL.

  Raises Mistake for a check that is not for such a model.
  """
  modules = {}
  for name, _, argument in (text.partition(":") for text in wanted):
    own = names(subject.kind) if name == ALL and subject.kind else [name]
    if own == [ALL]:
      raise Mistake("no check is for such a model; wanted a classifier or a decoder")
    modules |= {n: argument or modules.get(n, "") for n in own}
  subjects = {"classes": "a classifier of texts", "text": "a model of next tokens"}
  pairs = [(lookup.find(__name__, n), argument) for n, argument in modules.items()]
  for module, _ in pairs:
    if subject.kind != module.KIND:
      name = module.__name__.rpartition(".")[2]
      raise Mistake(f"the check {name!r} is for {subjects[module.KIND]}")
  return pairs


def run(modules, subject: Subject) -> list[Row]:
  """Returns the rows of checks, as `resolved` gives them."""
  return [
    row for module, argument in modules for row in module.check(subject, argument)
  ]


def values(rows) -> dict:
  """Returns {"check/case/metric": value, "..._95": (low, high)} of rows.

  The value is None where it is nan.
  """
  numbers = {}
  for row in rows:
    name = f"{row.check}/{row.case}/{row.metric}".replace(" ", "_")
    numbers[name] = None if math.isnan(row.value) else row.value
    if row.interval:
      numbers[f"{name}_95"] = row.interval
  return numbers


def cells(rows) -> list[list[str]]:
  """Returns the texts of a table, HEADINGS for each row."""
  return [
    [
      row.check,
      row.case,
      row.metric,
      _number(row.value),
      " to ".join(map(_number, row.interval)) if row.interval else "",
      f"{row.count:,}" if row.count else "",
    ]
    for row in rows
  ]


def table(rows) -> str:
  """Returns rows as a Markdown table."""
  lines = [HEADINGS, ["---"] * len(HEADINGS), *cells(rows)]
  lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
  return "" if math.isnan(value) else f"{value:.3f}"
