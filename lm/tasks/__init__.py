"""Tasks: what a model is fine-tuned for and scored on, read by every verb alike.

A task is a file here with a frozen dataclass `Task`, which extends the one below; its
fields are the values of the config's group `task`. `train` makes rows of the records,
`evaluate` scores the answers for the held-out ones, `generate` and a server answer a
prompt. Adding the file is registering it.

A task with data of its own and nothing to train has one function instead,

  evaluate(model, params, tokenizer, *, cache) -> {"<task>/<metric>": float}

which `evaluate --tasks=<name>` calls. One whose data are many also has

  select(argument)           -> the function `evaluate` of a part of them

for `evaluate --tasks=<name>:<argument>`; it raises Mistake before a model is loaded.
"""

import abc
import contextlib
import dataclasses
import functools
import json

import jax
import numpy as np

from lm import lookup, models
from lm.data import packed, tables
from lm.data.loader import Loader
from lm.errors import Mistake, suggestion
from lm.letters import make_mesh

BATCH = 8  # rows at a time, for answers
# The task of a model that was not trained here, by its output (`LanguageModel.output`).
OF_OUTPUT = {"classes": "classify", "labels": "tag", "span": "squad"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
  """The contract of a task. A record is a dict by our names of columns."""

  train: str  # a table of lm/data/tables, such as jsonl:PATH, csv:PATH, vader:movies
  heldout: str = ""  # another one; by default the table's own, or a tenth of `train`

  objective = ""  # the name of the loss that trains it
  converses = False  # True if the model writes text as any model: `generate` goes on
  learns = False  # a teacher labels its records: see `taught`

  @abc.abstractmethod
  def columns(self) -> dict[str, str]:
    """Returns {our name: name in the tables} of what every record needs.

    Our column "group" (a work, an article) is never split: see lm.data.records.
    """

  def texts(self, record: dict) -> list[str]:
    """Returns the texts of a record: what a tokenizer is learnt from."""
    return [record["text"]]

  def distinct(self, record: dict) -> list[str]:
    """Returns the texts that may overlap with others: no prompt that many share."""
    return self.texts(record)

  def key(self, record: dict) -> str:
    """Returns the text by which two records are the same."""
    return " ".join(self.texts(record))

  def extended(self, splits, *, cache):
    """Returns the splits of its tables with records from elsewhere."""
    return splits

  def resolved(self, splits) -> "Task":
    """Returns the task with what only the records tell, such as its classes."""
    return self

  def taught(self, splits, teacher, log=print):
    """Returns the splits with what a lm.train.teacher.Teacher says of the records.

    Only a task that `learns` has a teacher; `log` gets lines for the user.
    """
    return splits

  def for_model(self, fields: dict) -> "Task":
    """Returns the task with what only the model tells: `fields` are its flat ones."""
    return self

  def notes(self, splits) -> list[str]:
    """Returns lines of what the user should know of the records."""
    return []

  def fields(self) -> dict:
    """Returns the fields of the model that the task needs."""
    return {}

  def check_teacher(self, teacher) -> None:
    """Raises Mistake for a lm.train.teacher.Teacher that cannot teach the task."""
    return

  @abc.abstractmethod
  def layout(self, seq: int) -> dict:
    """Returns the arguments `sizes` and `dtypes` of lm.data.packed for the rows."""

  @abc.abstractmethod
  def rows(self, records, tokenizer, *, seq: int) -> packed.Packed:
    """Returns the rows of records, to train on and to be evaluated."""

  def length(self, tokenizer, record: dict) -> int:
    """Returns the positions of a row that a record takes."""
    return sum(len(tokenizer.prompt(text)) + 1 for text in self.texts(record))

  def record(self, prompt: str) -> dict:
    """Returns the record, without its reference, that a prompt stands for."""
    return {"text": prompt}

  @abc.abstractmethod
  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns an answer for each record; the records need no references."""

  @abc.abstractmethod
  def shown(self, answer: dict) -> str:
    """Returns a line of an answer for people."""

  @abc.abstractmethod
  def score(self, answers, records) -> dict:
    """Returns {metric: number or (low, high)} of answers for records."""

  def baselines(self, splits) -> dict:
    """Returns {metric: number} of answers for held-out records without a model."""
    return {}

  def compared(self, answers, teacher_answers, records) -> dict:
    """Returns the scores of answers, and under "teacher" those of a teacher's."""
    teacher_scores = self.score(teacher_answers, records)
    return self.score(answers, records) | {"teacher": teacher_scores}


def make(options: dict) -> Task:
  """Returns the Task that {"name": "classify", "train": "csv:a.csv"} describes.

  Raises Mistake for a name or an option that does not exist, and for one that lacks.
  """
  name, options = options.get("name", ""), dict(options)
  cls = kind(name)
  del options["name"]
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for option in options:
    if option not in fields:
      hint = suggestion(option, fields, otherwise=f"it has {', '.join(fields)}")
      raise Mistake(f"task {name!r} has no value {option!r}; {hint}")
  for option, field in fields.items():
    if field.default is dataclasses.MISSING and not options.get(option):
      raise Mistake(f"task.{option} is missing; give --config.task.{option}=...")
  task = cls(**options)
  for table in filter(None, (task.train, task.heldout)):
    tables.resolve(table)
  return task


def of_model(store, model) -> Task | None:
  """Returns the Task of a stored model: that of its run, or what its output head does.

  None for a model that continues texts or converses, or whose head has no task.
  """
  if options := store.config.get("task"):
    task = make(options)
    return None if task.converses else task
  name, options = OF_OUTPUT.get(model.output), {}
  if name is None:
    return None
  count = model.config.task.classes
  if name == "classify" and count == 1:
    name = "regress"
  elif model.output != "span":
    options["labels"] = store.labels or tuple(f"LABEL_{i}" for i in range(count))
  return kind(name)(train="", **options).for_model(models.fields(model))


def options(task) -> dict:
  """Returns the dict that `make` makes an equal task of."""
  name = type(task).__module__.rpartition(".")[2]
  return {"name": name} | dataclasses.asdict(task)


def defaults(name: str) -> dict:
  """Returns the default of every value of a task; "" for one that has none."""
  return {
    field.name: "" if field.default is dataclasses.MISSING else field.default
    for field in dataclasses.fields(kind(name))
  }


def kind(name: str):
  """Returns the class `Task` of a name; Mistake when there is none."""
  module = lookup.find("lm.tasks", name)
  if not hasattr(module, "Task"):
    raise Mistake(f"task {name!r} has nothing to train; it is for evaluate --tasks")
  return module.Task


def record_of(task: Task, prompt: str) -> dict:
  """Returns the record that a prompt stands for: its words, or a JSON object.

  Raises Mistake for an object that lacks a column, and for an empty prompt.
  """
  if not prompt.strip():
    raise Mistake("the text is empty; wanted one for the task to answer")
  record, example = task.record(prompt), task.record("text")
  if prompt.lstrip().startswith("{"):
    with contextlib.suppress(ValueError):  # a text may begin with a brace
      record = json.loads(prompt)
  if lacking := [name for name in example if name not in record]:
    raise Mistake(
      f"the prompt, an object, has no {lacking[0]!r}; wanted {', '.join(example)}"
    )
  return record


@functools.lru_cache(maxsize=32)
def bound(function, *args):
  """Returns function(*args, ...), the same object each time: it is compiled once."""
  return functools.partial(function, *args)


def outputs(function, params, rows):
  """Yields (example, its row as numpy arrays, its place, the outputs for the row).

  `function(params, batch)` returns an array, or a tuple of arrays, with B in front;
  `rows` are lm.data.packed.Packed, and `example` is a number of an example in them,
  which has the segment `place` + 1 of its row.
  """
  step, mesh = jax.jit(function), make_mesh(jax.local_devices()[:1])
  loader = Loader(rows, batch=min(BATCH, len(rows)), mesh=mesh, order="once")
  numbers = iter(range(len(rows)))
  for batch in loader.prefetch(range(len(loader))):
    results = jax.tree.map(np.asarray, step(params, batch))
    for place_in_batch, row in zip(range(loader.batch), numbers, strict=False):
      result = jax.tree.map(lambda x: x[place_in_batch], results)  # noqa: B023
      for place, example in enumerate(rows.members[row]):
        yield int(example), rows[row], place, result


def scorer(full_name: str):
  """Returns the function `evaluate` of "<name>" or "<name>:<argument>".

  Raises Mistake when there is none.
  """
  name, _, argument = full_name.partition(":")
  module = lookup.find("lm.tasks", name)
  has_parts = hasattr(module, "select")
  if argument and has_parts:
    return module.select(argument)
  if argument or not hasattr(module, "evaluate"):
    wanted = f"--tasks={name}:..." if has_parts else "a task of its own data"
    wanted = f"--tasks={name}" if hasattr(module, "evaluate") else wanted
    raise Mistake(f"nothing to evaluate for --tasks={full_name}; wanted {wanted}")
  return module.evaluate
