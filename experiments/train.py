"""Trains what a config says, or goes on where the same command stopped.

  ./launch.sh train --config=configs/shakespeare.py
  ./launch.sh train --config=configs/shakespeare.py --config.seed=1 --workdir=runs/b

Ctrl-C (or SIGTERM) saves a checkpoint and exits; the same command continues from it.
"""

import sys
from functools import partial

import jax

from experiments import cli, compose
from experiments.watch import Watch
from lm import train
from lm.checkpoint import Checkpoints
from lm.data.loader import Loader
from lm.interrupt import Interrupt
from lm.log import Log
from lm.rng import stream
from lm.workdir import Workdir

_CONFIG = cli.config_flag()
_WORKDIR = cli.workdir_flag("the run's folder; runs/<config> when left out")


def main():
  cfg = _CONFIG.value
  compose.start_distributed()
  folder = Workdir(_WORKDIR.value or compose.default_workdir())
  if jax.process_index() == 0:
    folder.begin(cfg.to_dict())
  with (
    Interrupt() as interrupt,
    Checkpoints(folder.checkpoints, keep=cfg.checkpoint.keep) as checkpoints,
  ):
    if max(checkpoints.steps(), default=0) >= cfg.num_steps:
      print(f"{folder.path} is finished; --config.num_steps=N goes on to N steps")
      return print(folder.next_commands())
    prepared = compose.data(cfg)
    if jax.process_index() == 0:
      prepared.tokenizer.save(folder.tokenizer)
    mesh = compose.mesh(cfg)
    model = compose.model(cfg, prepared.tokenizer.size)
    parts = compose.trainer(cfg, model, mesh)
    root = jax.random.key(cfg.seed)
    state, start = compose.start(cfg, parts, checkpoints, stream(root, "init"))
    loader = Loader(
      prepared, "train", batch=cfg.batch, seq=cfg.seq, seed=cfg.seed, mesh=mesh
    )
    log = Log(
      folder.path,
      resume_step=start,
      num_steps=cfg.num_steps,
      primary=jax.process_index() == 0,
    )
    with jax.set_mesh(mesh), log:
      watch = Watch(
        cfg,
        folder,
        log,
        model=model,
        parts=parts,
        prepared=prepared,
        mesh=mesh,
        checkpoints=checkpoints,
      )
      batches = loader.prefetch(start, cfg.num_steps)
      state = train.fit(
        state,
        parts.step,
        zip(range(start, cfg.num_steps), batches, strict=True),
        root=root,
        num_steps=cfg.num_steps,
        report=partial(watch.report, loader),
        hooks=watch.hooks(),
        stop=interrupt.agreed,
      )
  reached = int(state.step)
  if reached < cfg.num_steps:
    print(f"stopped after step {reached}, saved; the same command goes on from there")
    sys.exit(0)
  print(folder.next_commands())


if __name__ == "__main__":
  cli.run(main, required=("config",))
