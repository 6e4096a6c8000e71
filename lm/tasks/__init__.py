"""Tasks: what a model is fine-tuned for and scored on, read by every verb alike.

A task is a file here with a frozen dataclass `Task`, whose fields are the values of the
config's group `task`. It has

  objective                  the name of the loss that trains it
  train, heldout             names of tables (lm/data/tables); heldout may be ""
  columns() -> {our name: name in the tables} of what every record needs
  resolved(records)          -> the Task with what only the records tell (its classes)
  notes(splits) -> [str]     what the user should know of the records
  fields() -> dict           the fields of the model that the task needs
  shapes(seq)                -> {key: ArrayShape} of a row, without data
  rows(records, tokenizer, seq) -> Rows, to train on and to be evaluated
  answers(model, params, rows) -> an answer for each record, as a dict
  shown(answer) -> str       a line of it for people
  score(answers, records)    -> {metric: number or (low, high)}

`train` makes rows of the records, `evaluate` scores the answers for the held-out ones,
`generate` and a server give answers. Adding the file is registering it.

A task with data of its own and nothing to train has one function instead,

  evaluate(model, params, tokenizer, *, cache) -> {"<task>/<metric>": float}

which `evaluate --tasks=<name>` calls. One whose data are many also has

  select(argument)           -> the function `evaluate` of a part of them

for `evaluate --tasks=<name>:<argument>`; it raises Mistake before a model is loaded.
"""

import dataclasses

from lm import lookup
from lm.data import tables
from lm.errors import Mistake, suggestion


def make(options: dict):
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
