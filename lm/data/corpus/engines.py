"""Engines: who runs the tasks that prepare data.

  cfg.prepare = dict(engine="slurm", workers=64, tasks_per_job=8)

  here   a pool of processes of this machine
  slurm  arrays of jobs, by datatrove; $SBATCH_PARTITION and $SBATCH_TIMELIMIT say where
         and how long, and all nodes see the cache at the same path
  ray    the cluster of $RAY_ADDRESS, or one on this machine, by datatrove

The bytes are those of "here". The command waits for its jobs; when it is stopped, or
jobs fail, the same command cancels what is left of them and runs what lacks.
"""

import getpass
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lm.data.corpus import parallel
from lm.errors import Mistake, check_installed, not_negative, one_of, positive

ROOT = Path(__file__).resolve().parents[3]
POLL_S, POLLS = 2, 5  # of the queue, and of files that a network brings late
NEVER = (
  "DependencyNeverSatisfied"  # SLURM's reason of a job that waits for a failed one
)


@dataclass(frozen=True, kw_only=True)
class Engine:
  """The values of `cfg.prepare`."""

  engine: str = "here"  # who runs the tasks: "here", "slurm" or "ray"
  workers: int = 0  # at a time; 0: one a core, or as many as a cluster gives
  tasks_per_job: int = 1  # one after the other, in a job of SLURM

  def __post_init__(self):
    one_of("prepare.engine", self.engine, ("here", *CLUSTERS))
    not_negative(self, "workers")
    positive(self, "tasks_per_job")

  def open(self, folder, log):
    """Returns a context manager of an object with the `map` of parallel.Workers.

    `folder` is for the logs of jobs, and its name is theirs. Raises Mistake for an
    engine that is not installed.
    """
    if self.engine == "here":
      return parallel.Workers(self.workers or None)
    return CLUSTERS[self.engine](self, Path(folder), log)


class Unfinished(Mistake):
  """Tasks that did not end, of a source that is not at fault."""


class Cluster:
  """Jobs of other machines, which leave their results on disk."""

  packages = ("datatrove",)

  def __init__(self, engine: Engine, folder: Path, log):
    self.engine, self.folder, self.log = engine, folder, log
    for package in self.packages:
      check_installed(package, f"prepare.engine={engine.engine!r}")

  def __enter__(self):
    return self

  def __exit__(self, *_):
    return None

  def map(self, function, items, *, size: float, done):
    """Yields function(item) for each item, in order, once all have run elsewhere.

    `done(item)` is True for one that has left its result, which `function` reads then.
    Raises Unfinished for those that left none.
    """
    del size
    lacking = [item for item in items if not done(item)]
    if lacking:
      logs = self.folder / str(time.time_ns())  # of this number of tasks, and no other
      self.run(Step(function, lacking), logs, done)
    lost = [item for item in lacking if not done(item)]
    if lost:
      function(lost[0])  # raises here what it raised there, such as for a broken line
    if len(lost) > 1:
      raise Unfinished(
        f"{len(lost)} of {len(lacking)} tasks did not end; {logs} has what they wrote, "
        "and the same command runs them again"
      )
    yield from map(function, items)


@dataclass(frozen=True)
class Step:
  """The tasks of a stage, as a step of datatrove's pipelines."""

  function: object
  items: list

  def __call__(self, data, rank: int, world_size: int):
    del data, world_size
    self.function(self.items[rank])


class Slurm(Cluster):
  """Arrays of jobs on a cluster with SLURM."""

  def __init__(self, engine: Engine, folder: Path, log):
    super().__init__(engine, folder, log)
    for command in ("sbatch", "squeue", "scancel"):
      if shutil.which(command) is None:
        raise Mistake(f"prepare.engine='slurm' needs {command}: run it on a login node")
    for name in ("SBATCH_PARTITION", "SBATCH_TIMELIMIT"):
      if not os.environ.get(name):
        raise Mistake(f"prepare.engine='slurm' needs {name}: export {name}=...")

  def __enter__(self):
    self._cancel()  # what a command that was killed has left
    return self

  def __exit__(self, *_):
    self._cancel()

  def run(self, step: Step, logs: Path, done):
    """Submits an array of jobs, and waits until they have ended."""
    from datatrove.executor.slurm import SlurmPipelineExecutor

    SlurmPipelineExecutor(
      [step],
      tasks=len(step.items),
      time=os.environ["SBATCH_TIMELIMIT"],
      partition=os.environ["SBATCH_PARTITION"],
      workers=self.engine.workers or -1,
      tasks_per_job=self.engine.tasks_per_job,
      job_name=self._name,
      qos="",
      env_command=f"export PYTHONPATH={ROOT} PATH={Path(sys.executable).parent}:$PATH",
      logging_dir=str(logs),
    ).run()
    left = POLLS
    while left and not all(map(done, step.items)):
      time.sleep(POLL_S)
      left = POLLS if self._waits() else left - 1
    self._cancel()  # the statistics of datatrove wait for ever after a failure

  @property
  def _name(self) -> str:
    return f"lm-{self.folder.name}"

  def _waits(self) -> bool:
    """Returns True while a job runs, or will."""
    command = ["squeue", "--noheader", "--format=%r", *self._ours()]
    queue = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return any(reason.strip() != NEVER for reason in queue.stdout.splitlines())

  def _cancel(self):
    subprocess.run(["scancel", *self._ours()], check=True)

  def _ours(self) -> list[str]:
    return [f"--name={self._name}", f"--user={getpass.getuser()}"]


class Ray(Cluster):
  """Tasks on a cluster of Ray."""

  packages = ("datatrove", "ray")

  def __enter__(self):
    import ray

    paths = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    options = dict(log_to_driver=False, include_dashboard=False)
    ray.init(runtime_env=paths, ignore_reinit_error=True, **options)
    return self

  def __exit__(self, *_):
    import ray

    ray.shutdown()

  def run(self, step: Step, logs: Path, done):
    """Runs tasks as they find room, and waits until they have ended."""
    from datatrove.executor.ray import RayPipelineExecutor

    RayPipelineExecutor(
      [step],
      tasks=len(step.items),
      workers=self.engine.workers or -1,
      tasks_per_job=self.engine.tasks_per_job,
      logging_dir=str(logs),
    ).run()


CLUSTERS = {"slurm": Slurm, "ray": Ray}
HERE = Engine()
