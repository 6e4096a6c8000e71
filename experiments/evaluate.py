"""Scores a model on the whole held-out split: every token once.

./launch.sh evaluate --workdir=runs/shakespeare
./launch.sh evaluate --workdir=runs/word2vec --tasks=similarity
./launch.sh evaluate --workdir=SmolLM2-135M --config=configs/shakespeare.py

A folder of Hugging Face's or a .gguf file has no data of its own: --config names them,
and the objective. Any run is scored on other data in the same way.
"""

import json
import math
import sys
from functools import partial

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import check, compose, process
from lm import evaluate, lookup, metrics, stores
from lm.errors import Mistake
from lm.generate.prompts import generates
from lm.letters import make_mesh

_WORKDIR = process.workdir_flag(
  "a run's folder, a folder of Hugging Face's, or a .gguf file"
)
_CONFIG = process.config_flag("whose data to score it on, the run's own when left out")
_TASKS = flags.DEFINE_list("tasks", [], "what else to score, of lm/tasks")
_STEP = flags.DEFINE_integer("step", None, "the checkpoint; the newest when left out")


def main():
  path, own = _WORKDIR.value, _CONFIG.value is None
  tasks = [lookup.find("lm.tasks", name) for name in _TASKS.value]
  cfg = config_of(path) if own else _CONFIG.value
  if not own:
    check.keys(cfg)
    check.numbers(cfg)
  mesh = make_mesh(jax.local_devices()[:1])
  model, params, tokenizer = stores.load(path, step=_STEP.value, mesh=mesh)
  if not own:
    adapt(cfg, path, model, tokenizer)
  prepared = compose.data(cfg, log=partial(print, file=sys.stderr))
  if own and tokenizer.digest != prepared.tokenizer.digest:
    raise Mistake(
      f"the data of {path} has changed since it was trained: its tokenizer is "
      "another one now; restore the data or train anew"
    )
  extended = prepared.tokenizer.digest != tokenizer.digest
  if extended and prepared.tokenizer.size > model.config.vocab:
    raise Mistake(
      f"objective {cfg.objective!r} needs {prepared.tokenizer.size} tokens, and {path} "
      f"has {model.config.vocab}; choose a --config with another objective"
    )
  stores.check_vocabulary(tokenizer, model.config.vocab, owner=path)
  objective = compose.objective(cfg, prepared)
  step = evaluate.make_eval_step(model.apply, objective, prepared.tokenizer.bytes_V)
  loader = compose.loader(cfg, prepared, "heldout", seed=None, mesh=mesh)
  found = evaluate.evaluate(
    step, params, process.progress(loader.prefetch(0), len(loader))
  )
  if "eval/nats_per_token" in found:
    found["unigram_nats_per_token"] = metrics.entropy(prepared.counts("train"))
  if cfg.objective == "next_token" and "eval/bits_per_byte" not in found:
    # Tokens that have no bytes of their own: of the whole text, its ends among it.
    held = prepared.manifest["splits"]["heldout"]
    bits_per_token = found["eval/nats_per_token"] / math.log(2)
    found["eval/bits_per_byte"] = bits_per_token * held["tokens"] / held["bytes"]
  for task in tasks:
    found |= task.evaluate(model, params, tokenizer, cache=cfg.data.cache)
  print(json.dumps(found, indent=1))


def config_of(path) -> ConfigDict:
  """The config that a run was trained with; Mistake where there are no data."""
  cfg = stores.open(path).config
  if "data" not in cfg:
    raise Mistake(
      f"{path} was not trained by `train` and has no data to be scored on; add "
      "--config=configs/shakespeare.py, or one with the text that you want"
    )
  return ConfigDict(cfg)


def adapt(cfg, path, model, tokenizer):
  """Has a config's text read in the model's own tokens, in rows that it can hold."""
  if tokenizer is None:
    raise Mistake(f"{path} has no tokenizer; text needs one")
  if cfg.objective == "next_token" and not generates(model):
    raise Mistake(
      f"{path} sees the tokens that it should name; choose a --config with another "
      "objective than 'next_token', such as configs/family/bert.py"
    )
  cfg.data.tokenizer = str(stores.open(path).tokenizer_path.resolve())
  if model.config.context:
    cfg.seq = min(cfg.seq, model.config.context)


if __name__ == "__main__":
  process.run(main, required=("workdir",))
