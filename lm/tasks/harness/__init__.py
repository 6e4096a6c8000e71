"""Stock lm-eval on our models: its tasks from the command line, and an adapter for it.

    ./launch.sh evaluate --workdir=MODEL --tasks=harness:hellaswag

    import lm_eval
    from lm.tasks import harness

    model = harness.adapter(*lm.load("runs/shakespeare"))
    results = lm_eval.simple_evaluate(model, tasks=["hellaswag"])

requests.py answers what it asks; the package lm-eval fetches its tasks' data itself.
"""

import contextlib
import functools
import importlib.util
import sys

from lm.errors import Mistake, suggestion

PACKAGE = "lm-eval==0.4.13"


def adapter(model, params, tokenizer):
  """Returns a model for `lm_eval.simple_evaluate`, with all kinds of requests.

  Batches are made here: simple_evaluate's batch_size and device change nothing. Raises
  Mistake when lm-eval is not installed, and for a model that predicts no next token.
  """
  _check()
  from lm.tasks.harness.requests import Answerer
  from lm.tasks.harness.template_lm import Adapter

  return Adapter(Answerer(model, params, tokenizer))


def select(argument: str):
  """Returns the function `evaluate` of a task or group of lm-eval, by its name.

  Raises Mistake for a name that lm-eval has not, or when it is not installed.
  """
  _check()
  from lm_eval.tasks import TaskManager

  manager = TaskManager()
  if argument not in manager.all_tasks:
    close = suggestion(argument, manager.all_tasks, otherwise="see `lm-eval ls tasks`")
    raise Mistake(f"lm-eval has no task {argument!r}; {close}")
  return functools.partial(_evaluate, task=argument, manager=manager)


def _evaluate(model, params, tokenizer, *, cache, task, manager) -> dict:
  """Returns {"<task>/<metric>": number} of stock lm-eval, which fetches the data."""
  import lm_eval

  with contextlib.redirect_stdout(sys.stderr):  # it prints while it resamples
    results = lm_eval.simple_evaluate(
      adapter(model, params, tokenizer), tasks=[task], task_manager=manager
    )
  return {
    f"{name}/{metric.replace(',none', '')}": value
    for name, metrics in results["results"].items()
    for metric, value in metrics.items()
    if isinstance(value, int | float)
  }


def _check():
  """Raises Mistake when lm-eval is not installed."""
  if importlib.util.find_spec("lm_eval") is None:
    raise Mistake(
      f"lm-eval is not installed; .venv/bin/python -m pip install {PACKAGE}"
    )
