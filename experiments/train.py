"""Trains the model of a config, or continues where the same command stopped.

  ./launch.sh train --config=configs/shakespeare.py
  ./launch.sh train --config=configs/shakespeare.py --config.seed=1 --workdir=runs/b

Ctrl-C (or SIGTERM) saves a checkpoint and exits with 128 + its number, so that no
command after && goes on; the same command continues from the checkpoint.
"""

import jax

from experiments import commands, config, distributed, process
from experiments.interrupt import Interrupt
from lm.disk import atomic
from lm.stores.run import RunFolder
from lm.train import compose, run
from lm.train.config import FREE

config.flag()
_WORKDIR = process.workdir_flag("the run's folder; runs/<config> by default")


def main():
  distributed.start()
  experiment, values = config.experiment()
  folder = RunFolder(_WORKDIR.value or config.default_workdir())
  plan = compose.plan(experiment)
  folder.check(values, free=FREE)
  with folder.owned(log=say):
    distributed.check_shared(folder.path)
    for line in config.notes():
      say(line)
    return train_in(folder, plan, values)


def train_in(folder, plan, values):
  """Starts or continues a run; returns the exit code, not 0 if a signal stopped it.

  Prints what it trains, where its results are and what comes next.
  """
  e = plan.experiment
  if (step := run.finished_at(plan, folder)) is not None:
    say(
      f"{folder.path} is finished, after step {step}; a --config.num_steps above "
      f"{step} continues it"
    )
    if jax.process_index() == 0:
      say(commands.after_training(folder, e.sources))
    return 0
  # Outside of Interrupt: Ctrl-C ends it at once.
  dataset = compose.prepare(e, log=say, teacher=plan.teacher)
  with Interrupt() as interrupt:
    reached = run.run(
      plan, dataset, folder, config=values, stop=interrupt.agreed, log=say
    )
  if jax.process_index() == 0:
    atomic.write(folder.command_file, f"{commands.again('train')}\n")
  is_stopped = reached < e.num_steps
  if is_stopped:
    say(f"stopped after step {reached}, saved; the same command continues from there")
  if jax.process_index() == 0:
    draw(folder)
    say(commands.after_training(folder, e.sources))
  return 128 + interrupt.number if is_stopped else 0


def draw(folder):
  """Draws the curves of a run, unless it was stopped before its first step."""
  from lm.study import curves  # matplotlib takes a second

  if folder.metrics_file.exists() and folder.metrics_file.stat().st_size:
    curves.draw(folder.metrics_file, folder.curves_file)


def say(line: str):
  """Prints a line, once for all processes of the run."""
  if jax.process_index() == 0:
    print(line, flush=True)


if __name__ == "__main__":
  process.run(main, required=("config",))
