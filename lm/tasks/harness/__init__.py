"""Stock lm-eval on our models: its tasks from the command line, and an adapter for it.

    import lm_eval
    from lm.tasks import harness

    model = harness.adapter(*lm.load("runs/shakespeare"))
    results = lm_eval.simple_evaluate(model, tasks=["hellaswag"])

requests.py answers what it asks; the package lm-eval fetches its tasks' data itself.
"""

import importlib.util

from lm.errors import Mistake

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


def _check():
  """Raises Mistake when lm-eval is not installed."""
  if importlib.util.find_spec("lm_eval") is None:
    raise Mistake(
      f"lm-eval is not installed; .venv/bin/python -m pip install {PACKAGE}"
    )
