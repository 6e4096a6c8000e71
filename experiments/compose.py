"""From a config to objects: the only place that knows both."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import cli
from lm import dims, lookup, objectives, optim, train, workdir
from lm.data import prepare


def start_distributed():
  """Joins the other processes of the run, when the launcher has started several.

  On SLURM and TPU pods launch.sh sets LM_DISTRIBUTED and JAX finds out the rest;
  elsewhere the three variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID say who is who.
  """
  env = os.environ
  if "JAX_COORDINATOR_ADDRESS" in env and "JAX_PROCESS_ID" in env:
    jax.distributed.initialize(
      env["JAX_COORDINATOR_ADDRESS"],
      int(env["JAX_NUM_PROCESSES"]),
      int(env["JAX_PROCESS_ID"]),
    )
  elif "LM_DISTRIBUTED" in env:
    jax.distributed.initialize()


def default_workdir() -> str:
  """runs/<name of the config>, without the argument of "file.py:argument"."""
  return os.path.join("runs", Path(cli.config_file().split(":")[0]).stem)


def data(cfg, *, log=print):
  """The prepared data of a config; made on first use."""
  settings = cfg.data.to_dict()
  return prepare.prepare(**settings, seq=cfg.seq, log=log)


def mesh(cfg):
  return dims.make_mesh(**cfg.mesh)


def model(cfg, vocab: int):
  """The model of a config; ValueError when its rows do not fit the context."""
  built = lookup.model(**cfg.model, vocab=vocab)
  if cfg.seq > built.config.context:
    raise ValueError(
      f"seq={cfg.seq} is longer than the model's context={built.config.context}; "
      "make seq smaller or model.context larger"
    )
  return built


class Trainer(NamedTuple):
  """What `train.fit` needs of a config and a model."""

  init: Any  # key -> TrainState, sharded
  abstract: Any  # its shapes and shardings
  letters: Any  # the dimensions of the parameters
  step: Any  # the update
  objective: Any


def trainer(cfg, built, where) -> Trainer:
  """The objects of a config's training on the mesh `where`."""
  tokens_BT = jnp.zeros((1, cfg.seq), jnp.int32)
  shapes, letters = dims.abstract(built, tokens_BT)
  options = cfg.optim.to_dict()
  accumulate, ema = options.pop("accumulate"), options.pop("ema")
  tx, schedule = optim.make(
    **options, num_steps=cfg.num_steps, params=shapes, dims=letters
  )
  init, abstract = train.state_maker(built, tx, where, tokens_BT, ema=ema > 0)
  objective = lookup.function(objectives, cfg.objective)
  step = train.make_step(
    built.apply,
    objective,
    tx,
    schedule=schedule,
    accumulate=accumulate,
    ema_decay=ema,
    abstract=abstract,
  )
  return Trainer(init, abstract, letters, step, objective)


def start(cfg, parts: Trainer, checkpoints, key):
  """(state, updates made): the newest checkpoint, or a new state.

  `init_from` names a run whose parameters a new state starts from.
  """
  if checkpoints.steps():
    state, done, _ = checkpoints.restore(parts.abstract)
    print(f"goes on after step {done} of {checkpoints.folder}")
    return state, done
  state = parts.init(key)
  if cfg.init_from:
    params = workdir.load_params(cfg.init_from, parts.abstract.params)
    state = state.replace(params=params, ema=params if cfg.optim.ema else ())
  return state, 0
