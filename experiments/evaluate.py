"""Scores a run on the whole held-out split: every token once.

./launch.sh evaluate --workdir=runs/shakespeare
./launch.sh evaluate --workdir=runs/word2vec --tasks=similarity
"""

import json

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import cli, compose
from lm import dims, evaluate, lookup, metrics, workdir

_WORKDIR = cli.workdir_flag()
_TASKS = flags.DEFINE_list("tasks", [], "what else to score, of lm/tasks")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint; the newest when left out")


def main():
  folder = workdir.Workdir(_WORKDIR.value)
  cfg = ConfigDict(folder.config())
  if "data" not in cfg:
    raise ValueError(
      f"{folder.path} was saved from a notebook and has no data; evaluate takes runs "
      "that `train` made"
    )
  tasks = [lookup.find("lm.tasks", name) for name in _TASKS.value]
  prepared = compose.data(cfg)
  mesh = dims.make_mesh(jax.local_devices()[:1])
  model, params, tokenizer = workdir.load(folder.path, step=_STEP.value, mesh=mesh)
  if tokenizer.digest != prepared.tokenizer.digest:
    raise ValueError(
      f"the data of {folder.path} has changed since it was trained: its tokenizer is "
      "another one now; restore the data or train anew"
    )
  objective = compose.objective(cfg, prepared)
  step = evaluate.make_eval_step(model.apply, objective, tokenizer.bytes_V)
  loader = compose.loader(cfg, prepared, "heldout", seed=None, mesh=mesh)
  found = evaluate.evaluate(step, params, cli.progress(loader.prefetch(0), len(loader)))
  if "eval/nats_per_token" in found:
    found["unigram_nats_per_token"] = metrics.entropy(prepared.counts("train"))
  for task in tasks:
    found |= task.evaluate(model, params, tokenizer, cache=cfg.data.cache)
  print(json.dumps(found, indent=1))


if __name__ == "__main__":
  cli.run(main, required=("workdir",))
