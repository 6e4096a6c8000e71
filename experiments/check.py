"""Mistakes in a config, found before there are data.

Preparing them may take hours; this takes a second, and writes nothing.
"""

import dataclasses
import difflib
import functools
import inspect
import operator

from ml_collections import ConfigDict

from experiments import compose, process
from lm import optim
from lm.data import Data, tokenizers
from lm.data.rows import corrupt
from lm.errors import Mistake
from lm.nn.layers import VOCAB_MULTIPLE
from lm.stores import vectors

LEAST = {
  "seed": 0,
  "num_steps": 1,
  "batch": 1,
  "seq": 1,
  "optim.lr": 0,
  "optim.decay": 0,
  "optim.clip": 0,
  "optim.accumulate": 1,
  "eval.every": 0,
  "eval.batches": 0,
  "eval.sample_tokens": 0,
  "checkpoint.every": 0,
  "checkpoint.keep": 1,
}
SEEDS = 1 << 32  # jax would take the next one for 0


def _keywords(function, *, but) -> dict[str, bool]:
  """The keywords of a function, and whether they must be given."""
  known = inspect.signature(function).parameters.items()
  return {name: p.default is p.empty for name, p in known if name not in but.split()}


def _required(names: str) -> dict[str, bool]:
  return dict.fromkeys(names.split(), True)


def _optional(names: str) -> dict[str, bool]:
  return dict.fromkeys(names.split(), False)


# What a config and its groups may hold, and whether it must. Groups that are not here
# (loss, mesh, data.clean, data.corrupt) are read by functions that know; so are the
# other values of model.
KEYS = {
  "": _required("seed num_steps batch seq objective model data optim mesh eval")
  | _required("checkpoint")
  | _optional("init_from init_embedding loss"),
  "model": _required("family"),
  "data": {
    field.name: field.default is field.default_factory is dataclasses.MISSING
    for field in dataclasses.fields(Data)
  },
  "optim": _keywords(optim.make, but="num_steps params dims")
  | _required("accumulate ema"),
  "eval": _required("every batches sample_tokens"),
  "checkpoint": _required("every keep"),
}
GROUPS = ("model", "data", "optim", "mesh", "eval", "checkpoint", "loss")


def keys(cfg):
  """Raises Mistake when a value is missing, or one is there that nothing reads."""
  for group, known in KEYS.items():
    found = cfg[group] if group else cfg
    start = f"{group}." if group else ""
    for name in found if group != "model" else ():
      if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {start}{near[0]}?" if near else "take it out"
        raise Mistake(f"nothing reads the config's value {start}{name}; {hint}")
    for name, needed in known.items():
      if needed and name not in found:
        raise Mistake(
          f"the config has no value {start}{name}; add it to its file, as in "
          f"{process.SHOWN}"
        )
    if not group:
      _check_groups(cfg)


def _check_groups(cfg):
  for name in GROUPS:
    if name in cfg and not isinstance(cfg[name], ConfigDict):
      raise Mistake(f"{name}={cfg[name]!r}; wanted a group: cfg.{name} = dict(...)")


def numbers(cfg):
  """Raises Mistake when a value of LEAST is less than that, or no number."""
  for name, least in LEAST.items():
    value = functools.reduce(operator.getitem, name.split("."), cfg)
    if not (isinstance(value, int | float) and value >= least):
      raise Mistake(f"{name}={value!r}; wanted {least} or more")
  if cfg.seed >= SEEDS:
    raise Mistake(f"seed={cfg.seed}; wanted less than {SEEDS}")


def config(cfg, where):
  """Raises Mistake for what is wrong on the mesh `where`; `keys` comes before."""
  numbers(cfg)
  if not 0 <= cfg.optim.ema < 1:
    raise Mistake(f"optim.ema={cfg.optim.ema}; wanted 0 or more, less than 1")
  if cfg.batch % cfg.optim.accumulate:
    raise Mistake(
      f"optim.accumulate={cfg.optim.accumulate} does not divide batch={cfg.batch}"
    )
  compose.shapes(cfg, where)
  tokenizers.make(cfg.data.tokenizer, ())  # one to be learnt, from nothing as yet
  # As many tokens as every mesh divides; how many there are is known after the data.
  built = compose.model(cfg, vocab=VOCAB_MULTIPLE * where.shape["tensor"])
  compose.carried(cfg, built)
  if cfg.eval.sample_tokens and not built.traits.decodes:
    raise Mistake(
      f"eval.sample_tokens={cfg.eval.sample_tokens}, and family {cfg.model.family!r} "
      "writes no text; wanted 0"
    )
  compose.objective(cfg)
  corrupt.check_objective(cfg.objective, compose.data_of(cfg).corrupt)
  compose.trainer(cfg, built, where)
  if cfg.get("init_from"):
    compose.check_init(cfg)
  if cfg.get("init_embedding"):
    vectors.check(cfg.init_embedding)
