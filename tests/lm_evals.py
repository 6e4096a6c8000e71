"""Stock lm-eval on files of this machine, and its own model of transformers as a peer.

Tests of lm.tasks compare with both: `evaluated` runs tasks, `answers` single requests.
"""

import contextlib
import io
import os

os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when datasets is imported

import datasets
import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lm import stores

datasets.disable_progress_bars()


def exported(folder, model, params, tokenizer, **options) -> HFLM:
  """Returns lm-eval's own model of the same weights, read from a folder it can read."""
  run, copy = folder / "run", folder / "copy"
  stores.save(run, model, params, tokenizer)
  stores.write(copy, stores.open(run))
  return peer(copy, **options)


def peer(folder, **options) -> HFLM:
  """Returns lm-eval's own model of a folder of Hugging Face."""
  return HFLM(pretrained=str(folder), device="cpu", dtype="float32", **options)


def answers(model, kind: str, requests):
  """Returns the answers of a model to requests of one kind, tuples of arguments."""
  instances = [Instance(kind, {}, arguments, 0) for arguments in requests]
  with contextlib.redirect_stderr(io.StringIO()):
    return getattr(model, kind)(instances)


def evaluated(model, tasks, cache, *, include=None, **options) -> dict:
  """Returns the results of lm_eval.simple_evaluate, with samples and without bootstrap.

  `tasks` are configs, or names of those in the folder `include`.
  """
  datasets.config.HF_DATASETS_CACHE = cache
  manager = TaskManager(include_path=include, include_defaults=False)
  with contextlib.redirect_stderr(io.StringIO()):
    return lm_eval.simple_evaluate(
      model, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options
    )
