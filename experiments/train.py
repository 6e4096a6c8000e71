"""Trains what a config says, or goes on where the same command stopped.

  ./launch.sh train --config=configs/shakespeare.py
  ./launch.sh train --config=configs/shakespeare.py --config.seed=1 --workdir=runs/b

Ctrl-C (or SIGTERM) saves a checkpoint and exits; the same command continues from it.
"""

import contextlib
from functools import partial

import jax

from experiments import check, compose, distributed, process
from experiments.interrupt import Interrupt
from experiments.watch import Watch
from lm import train
from lm.checkpoint import Checkpoints
from lm.log import Log
from lm.rng import stream
from lm.stores.run import RunFolder

_CONFIG = process.config_flag()
_WORKDIR = process.workdir_flag("the run's folder; runs/<config> when left out")


def main():
  cfg = _CONFIG.value
  distributed.start()
  folder = RunFolder(_WORKDIR.value or compose.default_workdir())
  check.keys(cfg)
  mesh = compose.mesh(cfg)
  check.config(cfg, mesh)
  folder.check(cfg.to_dict(), free=compose.FREE)
  with nothing_empty(folder.path, folder.checkpoints):
    distributed.check_shared(folder.path)
    train_in(folder, cfg, mesh)


@contextlib.contextmanager
def nothing_empty(*folders):
  """Takes away again those of the new folders that a mistake has left empty."""
  new = [path for path in folders if not path.exists()]
  try:
    yield
  except BaseException:
    for path in reversed(new):
      with contextlib.suppress(OSError):
        path.rmdir()  # which does nothing to one that holds something
    raise


def train_in(folder, cfg, mesh):
  """Begins or goes on with the run of a folder, and says what came of it."""
  told = partial(
    folder.next_commands, generates=compose.model(cfg, vocab=1).traits.decodes
  )
  if finished(cfg, folder):
    compose.say(f"{folder.path} is finished; --config.num_steps=N goes on to N steps")
    return compose.say(told())
  prepared = compose.data(cfg)
  with (
    Interrupt() as interrupt,
    Checkpoints(folder.checkpoints, keep=cfg.checkpoint.keep) as checkpoints,
  ):
    reached = run(cfg, folder, mesh, prepared, checkpoints, stop=interrupt.agreed)
  if reached < cfg.num_steps:
    compose.say(
      f"stopped after step {reached}, saved; the same command goes on from there"
    )
  else:
    compose.say(told())


def finished(cfg, folder) -> bool:
  """Whether the last checkpoint is there and whole; notices what cannot be written."""
  with Checkpoints(folder.checkpoints, keep=cfg.checkpoint.keep) as checkpoints:
    last = max(checkpoints.steps(), default=0)
    return last >= cfg.num_steps and checkpoints.good() >= cfg.num_steps


def run(cfg, folder, mesh, prepared, checkpoints, *, stop) -> int:
  """Trains from the newest checkpoint to the end, or to when `stop` says so.

  Returns the updates made in all.
  """
  primary = jax.process_index() == 0
  model = compose.model(cfg, compose.vocab(cfg, prepared.tokenizer))
  parts = compose.trainer(cfg, model, mesh, prepared)
  root = jax.random.key(cfg.seed)
  state, start = compose.start(cfg, parts, checkpoints, prepared, stream(root, "init"))
  loader = compose.loader(cfg, prepared, "train", seed=cfg.seed, mesh=mesh)
  if primary:
    folder.begin(cfg.to_dict(), model, free=compose.FREE)
    prepared.tokenizer.save(folder.tokenizer)
  log = Log(folder.path, resume_step=start, num_steps=cfg.num_steps, primary=primary)
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
  with jax.set_mesh(mesh), log:
    batches = loader.prefetch(range(start, cfg.num_steps))
    try:
      state = train.fit(
        state,
        parts.step,
        zip(range(start, cfg.num_steps), batches, strict=True),
        root=root,
        num_steps=cfg.num_steps,
        report=partial(watch.report, loader),
        hooks=watch.hooks(),
        stop=stop,
      )
    except train.Diverged as problem:
      raise train.Diverged(f"{problem}; {last_good(folder, checkpoints)}") from None
  return int(state.step)


def last_good(folder, checkpoints) -> str:
  """What is left of a run that diverged, and what to do with it."""
  checkpoints.wait()
  if not checkpoints.steps():
    return "nothing was saved yet: try a lower optim.lr or a longer optim.warmup"
  return (
    f"the checkpoint of step {checkpoints.steps()[-1]} is good: go on from it with a "
    f"lower optim.lr, --config.init_from={folder.path} and another --workdir"
  )


if __name__ == "__main__":
  process.run(main, required=("config",))
