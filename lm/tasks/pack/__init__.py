"""A pack of tasks that need no network: choices, cloze, texts, translation, questions.

    ./launch.sh evaluate --workdir=MODEL --tasks=pack              all of them
    ./launch.sh evaluate --workdir=MODEL --tasks=pack:arithmetic   one of data/*.yaml
    ./launch.sh evaluate --workdir=MODEL --tasks=pack:mine.yaml    a file, or a folder

Each is a YAML file of lm-eval's with records beside it (task_file.py says which keys
are read): stock lm-eval runs it too, and gets the same numbers.
"""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

from lm.disk import paths
from lm.errors import Mistake, suggestion

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Result:
  """The metrics of a task, their standard errors, and its records one by one."""

  metrics: dict[str, float]
  errors: dict[str, float]
  items: list[dict]  # "requests", "answers", and the value of each metric


def evaluate(model, params, tokenizer, *, cache, files=None) -> dict:
  """Returns {"<task>/<metric>": number, "<task>/<metric>_stderr": number}.

  `files` are the YAML files to run, by default the pack's; `cache` is not used. Raises
  Mistake for a model that predicts no next token.
  """
  report = {}
  for name, result in run(model, params, tokenizer, files or named("")).items():
    for metric, value in result.metrics.items():
      report[f"{name}/{metric}"] = value
      report[f"{name}/{metric}_stderr"] = result.errors[metric]
    report[f"{name}/items"] = len(result.items)
  return report


def select(argument: str):
  """Returns the function `evaluate` of the tasks that `--tasks=pack:ARGUMENT` names."""
  files = named(argument)
  _read(files)
  return functools.partial(evaluate, files=files)


def named(name: str) -> list[Path]:
  """Returns the YAML files of a task of the pack, of a path, or of all the pack ("").

  A path is that of a file or of a folder. Raises Mistake when there is none.
  """
  inside = {path.stem: path for path in sorted(DATA.glob("*.yaml"))}
  if name in inside:
    return [inside[name]]
  path = paths.local(name) if name else DATA
  files = [path] if path.is_file() else sorted(path.glob("*.yaml"))
  if not files:
    close = suggestion(name, inside, otherwise=f"found: {', '.join(inside)}")
    raise Mistake(
      f"no task {name!r} in the pack, and no YAML file or folder of those; {close}"
    )
  return files


def run(model, params, tokenizer, files) -> dict[str, Result]:
  """Returns the Result of each task by its name.

  All requests of a kind are answered together, as lm-eval does.
  """
  from lm.tasks.harness.requests import Answerer

  answerer, tasks = Answerer(model, params, tokenizer), _read(files)
  requests = {task.name: [*map(task.requests, task.records)] for task in tasks}
  answers = _answered(answerer, tasks, requests)
  return {t.name: _result(t, requests[t.name], answers[t.name]) for t in tasks}


def _read(files) -> list:
  """Returns the TaskFile of each path; Mistake when two have a name in common."""
  from lm.tasks.pack import task_file

  tasks = [task_file.read(path) for path in files]
  names = [task.name for task in tasks]
  if repeated := {name for name in names if names.count(name) > 1}:
    raise Mistake(f"several files have task {min(repeated)!r}; wanted a name for each")
  return tasks


def _answered(answerer, tasks, requests: dict) -> dict[str, list[list]]:
  """Returns the answers by task, record and request."""
  pending = {}
  for task in tasks:
    flat = itertools.chain.from_iterable(requests[task.name])
    pending.setdefault(task.kind, []).extend(flat)
  answers = {kind: iter(getattr(answerer, kind)(pending[kind])) for kind in pending}
  return {
    task.name: [
      [next(answers[task.kind]) for _ in several] for several in requests[task.name]
    ]
    for task in tasks
  }


def _result(task, requests, answers) -> Result:
  """Returns the Result of a task, of its requests and answers by record."""
  from lm.tasks.pack import metrics

  items = [
    task.scores(record, several)
    for record, several in zip(task.records, answers, strict=True)
  ]
  values, errors = {}, {}
  for name in task.metrics:
    kind, column = metrics.aggregation(name), [item[name] for item in items]
    values[name] = metrics.aggregate(kind, column)
    errors[name] = metrics.error(kind, column)
  rows = zip(requests, answers, items, strict=True)
  shown = [{"requests": r, "answers": a} | item for r, a, item in rows]
  return Result(values, errors, shown)
