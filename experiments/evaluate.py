"""Scores a model on the whole held-out split: every token once.

./launch.sh evaluate --workdir=runs/shakespeare
./launch.sh evaluate --workdir=runs/word2vec --tasks=similarity
./launch.sh evaluate --workdir=SmolLM2-135M --config=configs/shakespeare.py

A Hugging Face folder or a .gguf file has no data of its own: --config names them, and
the objective. Any run is scored on other data in the same way.
"""

import dataclasses
import json
import math
import sys
from functools import partial

import jax
from absl import flags

from experiments import config, process
from lm import evaluate, lookup, metrics, models, objectives, stores, tasks
from lm.data import overlap
from lm.data.loader import Loader, batch_shapes
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.log.progress import progress
from lm.train import compose
from lm.train.config import Experiment

config.flag("the data to score it on; by default the run's own")
_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_TASKS = flags.DEFINE_list("tasks", [], "what else to score, of lm/tasks")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint; by default the newest")


def main():
  scored = [lookup.find("lm.tasks", name) for name in _TASKS.value]
  experiment = config.experiment()[0] if config.is_given() else trained(_WORKDIR.value)
  mesh = make_mesh(jax.local_devices()[:1])
  model, params, tokenizer = stores.load(_WORKDIR.value, step=_STEP.value, mesh=mesh)
  if config.is_given():
    experiment = adapted(experiment, model, tokenizer)
  values = scores(experiment, model, params, tokenizer, mesh)
  for task in scored:
    cache = experiment.data.cache
    values |= task.evaluate(model, params, tokenizer, cache=cache)
  print(json.dumps(values, indent=1))


def trained(path) -> Experiment:
  """Returns the Experiment of a run; raises Mistake for a model without one."""
  store = stores.open(path)
  values = store.config
  if "data" not in values:
    raise Mistake(
      f"{path} was not trained by `train` and has no data to be scored on; add "
      f"--config={config.SHOWN}, or one with the text that you want"
    )
  return Experiment.of(values)


def adapted(experiment, model, tokenizer) -> Experiment:
  """Returns the experiment with the model's tokenizer, and rows within its context."""
  path = _WORKDIR.value
  if tokenizer is None:
    raise Mistake(f"{path} has no tokenizer; text needs one")
  objectives.check_model(experiment.objective, model)
  tokenizer_path = str(stores.open(path).tokenizer_path.absolute())
  seq = min(experiment.seq, model.config.context or experiment.seq)
  changed = dataclasses.replace(experiment.data, tokenizer=tokenizer_path)
  task = experiment.task
  if task:
    task = tasks.options(tasks.make(task).for_model(models.fields(model)))
  return dataclasses.replace(experiment, data=changed, seq=seq, task=task)


def check_before_data(experiment, model, params, mesh):
  """Raises Mistake for rows or a head that the objective needs and does not get."""
  e = experiment
  objectives.check_rows(e.objective, e.data.corrupt)
  batch = batch_shapes(compose.row_shapes(e), batch=e.batch, mesh=mesh)
  objective, given = objectives.make(e.objective, e.loss)
  evaluate.names(model.apply, objective, params, batch, given)


def scores(experiment, model, params, tokenizer, mesh) -> dict[str, float]:
  """Returns the metrics of a model on the held-out text of an experiment."""
  check_before_data(experiment, model, params, mesh)
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
  objective, given = objectives.make(experiment.objective, experiment.loss, dataset)
  step = evaluate.make_eval_step(model.apply, objective, dataset.tokenizer.bytes_V)
  rows = dataset.rows("heldout", experiment.seq)
  loader = Loader(rows, batch=experiment.batch, mesh=mesh, order="once")
  batches = loader.prefetch(range(len(loader)))
  batches = progress(batches, total=len(loader), unit="batch")
  values = evaluate.evaluate(step, params, batches, given=given)
  if experiment.task:
    return values | task_scores(dataset, model, params, experiment.seq)
  if "eval/nats_per_token" in values:
    values["unigram_nats_per_token"] = metrics.entropy(dataset.counts("train"))
  if experiment.objective == "next_token" and "eval/bits_per_byte" not in values:
    # Tokens without bytes of their own: over the whole text, ends included.
    split = dataset.manifest["splits"]["heldout"]
    bits_per_token = values["eval/nats_per_token"] / math.log(2)
    values["eval/bits_per_byte"] = bits_per_token * split["tokens"] / split["bytes"]
  return values


def task_scores(dataset, model, params, seq: int) -> dict:
  """Returns the scores of a task's answers, and what its splits have in common."""
  task, records = dataset.task, dataset.splits.heldout
  answers = task.answers(model, params, dataset.tokenizer, records, seq=seq)
  share = overlap.share(dataset.texts("train"), dataset.texts("heldout"))
  return task.score(answers, records) | {"overlap_8_grams": share}


if __name__ == "__main__":
  process.run(main, required=("workdir",))
