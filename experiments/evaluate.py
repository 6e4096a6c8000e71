"""Scores a model on the whole held-out split: every token once.

./launch.sh evaluate --workdir=runs/shakespeare
./launch.sh evaluate --workdir=runs/word2vec --tasks=similarity
./launch.sh evaluate --workdir=SmolLM2-135M --tasks=pack:arithmetic,pack:science
./launch.sh evaluate --workdir=runs/sentiment --tasks=checks
./launch.sh evaluate --workdir=runs/sentiment --tasks=robustness,fairness:COLUMN
./launch.sh evaluate --workdir=SmolLM2-135M --config=configs/shakespeare.py

A Hugging Face folder or a .gguf file has no data of its own: --config names them, and
the objective; --tasks bring their own. Any run is scored on other data in the same way.
"""

import json
import math
import sys
from functools import partial

import jax
from absl import flags

from experiments import config, process, scored
from lm import evaluate, metrics, objectives, stores, tasks
from lm.data import Data, overlap
from lm.data.loader import Loader, batch_shapes
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.log.progress import progress
from lm.study import checks, items
from lm.train import compose

config.flag("the data to score it on; by default the run's own")
_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_TASKS = flags.DEFINE_list(
  "tasks",
  [],
  "what else to score: NAME or NAME:PART of lm/tasks, or of lm/study/checks (checks: "
  "all)",
)
_STEP = flags.DEFINE_integer("step", None, "the checkpoint; by default the newest")


def main():
  checked = [name for name in _TASKS.value if checks.is_name(name)]
  scorers = [tasks.scorer(name) for name in _TASKS.value if name not in checked]
  path = _WORKDIR.value
  if config.is_given():
    experiment = config.experiment()[0]
  else:
    experiment = scored.trained(path, needed=bool(checked) or not scorers)
  mesh = make_mesh(jax.local_devices()[:1])
  model, params, tokenizer = stores.load(path, step=_STEP.value, mesh=mesh)
  if config.is_given():
    experiment = scored.adapted(experiment, path, model, tokenizer)
  subject = subject_of(experiment, model, params, tokenizer) if checked else None
  modules = checks.resolved(checked, subject)
  values = scores(experiment, model, params, tokenizer, mesh) if experiment else {}
  for scorer in scorers:
    cache = experiment.data.cache if experiment else Data().cache
    values |= scorer(model, params, tokenizer, cache=cache)
  if rows := checks.run(modules, subject):
    print(checks.table(rows), file=sys.stderr)
    values |= checks.values(rows)
  print(json.dumps(values, indent=1))


def subject_of(experiment, model, params, tokenizer) -> checks.Subject:
  """Returns what checks are made on: the model and, of a task, the held-out records."""
  heldout = items.Items("", [])
  if experiment.task:
    heldout = items.checked(items.of(experiment), stores.open(_WORKDIR.value))
  return checks.Subject(model, params, tokenizer, experiment, heldout)


def check_before_data(experiment, model, params, mesh, teacher):
  """Raises Mistake for rows or a head that the objective needs and does not get."""
  e = experiment
  compose.check_rows(e)
  batch = batch_shapes(compose.row_shapes(e), batch=e.batch, mesh=mesh)
  objective, given = objectives.make(e.objective, e.loss, teacher=teacher)
  evaluate.names(model.apply, objective, params, batch, given)


def scores(experiment, model, params, tokenizer, mesh) -> dict[str, float]:
  """Returns the metrics of a model on the held-out text of an experiment."""
  teacher = compose.teacher(experiment, mesh, splits=("heldout",))
  check_before_data(experiment, model, params, mesh, teacher)
  dataset = compose.prepare(experiment, log=partial(print, file=sys.stderr))
  path, vocab = _WORKDIR.value, model.config.vocab
  if not config.is_given() and tokenizer.digest != dataset.tokenizer.digest:
    raise Mistake(
      f"the data of {path} has changed since it was trained: its tokenizer is another "
      "one now; restore the data or train anew"
    )
  if experiment.data.corruption and dataset.tokenizer.size > vocab:
    raise Mistake(
      f"objective {experiment.objective!r} needs {dataset.tokenizer.size} tokens, and "
      f"{path} has {vocab}; choose a --config with another objective"
    )
  name, options = experiment.objective, experiment.loss
  objective, given = objectives.make(name, options, dataset, teacher)
  step = evaluate.make_eval_step(model.apply, objective, dataset.tokenizer.bytes_V)
  rows = dataset.rows("heldout", experiment.seq)
  loader = Loader(rows, batch=experiment.batch, mesh=mesh, order="once")
  batches = loader.prefetch(range(len(loader)))
  batches = progress(batches, total=len(loader), unit="batch")
  values = evaluate.evaluate(step, params, batches, given=given)
  if experiment.task:
    return values | task_scores(dataset, model, params, experiment.seq, teacher)
  if "eval/nats_per_token" in values:
    values["unigram_nats_per_token"] = metrics.entropy(dataset.counts("train"))
  if experiment.objective == "next_token" and "eval/bits_per_byte" not in values:
    # Tokens without bytes of their own: over the whole text, ends included.
    split = dataset.manifest["splits"]["heldout"]
    bits_per_token = values["eval/nats_per_token"] / math.log(2)
    values["eval/bits_per_byte"] = bits_per_token * split["tokens"] / split["bytes"]
  return values


def task_scores(dataset, model, params, seq: int, teacher=None) -> dict:
  """Returns the scores of a task's answers, and what its splits have in common.

  Those of a teacher are beside them, under "teacher".
  """
  task, records = dataset.task, dataset.splits.heldout
  print(f"answers to {len(records):,} records", file=sys.stderr)
  answers = task.answers(model, params, dataset.tokenizer, records, seq=seq)
  share = overlap.share(
    *(
      [text for record in split for text in task.distinct(record)]
      for split in (dataset.splits.train, dataset.splits.heldout)
    )
  )
  if teacher is None:
    values = task.score(answers, records)
  else:
    values = task.compared(answers, teacher.answers(records), records)
  values |= task.baselines(dataset.splits)
  return values | {"overlap_8_grams": share}


if __name__ == "__main__":
  process.run(main, required=("workdir",))
