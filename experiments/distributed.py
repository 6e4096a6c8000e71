"""Runs of several processes: joining them, and checking that they share a folder."""

import os
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from lm.errors import Mistake

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
WAIT_S = 60  # a network file system may take so long to show a new file elsewhere


def start():
  """Joins the other processes of the run, when the launcher has started several.

  On SLURM and TPU pods launch.sh sets LM_DISTRIBUTED, and JAX detects the address and
  the numbers; elsewhere the environment has them, in VARIABLES. Raises Mistake if only
  some of them are set, or to what is no number.
  """
  settings = {name: os.environ[name] for name in VARIABLES if name in os.environ}
  if "LM_DISTRIBUTED" in os.environ and len(settings) < len(VARIABLES):
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise Mistake(
        f"LM_DISTRIBUTED is set, but here is no SLURM job and no TPU pod ({error}); "
        f"unset it, or set {', '.join(VARIABLES)}"
      ) from error
  elif settings:
    jax.distributed.initialize(*_parsed(settings))


def _parsed(settings: dict) -> tuple[str, int, int]:
  """Returns (address of process 0, number of processes, index of this one)."""
  address, *numbers = (settings.get(name, "") for name in VARIABLES)
  for name in VARIABLES:
    if not settings.get(name):
      raise Mistake(f"{name} is not set; {', '.join(VARIABLES)} are to be set together")
  for name, value in zip(VARIABLES[1:], numbers, strict=True):
    if not value.isdecimal():
      raise Mistake(f"{name}={value}; wanted a number")
  count, index = map(int, numbers)
  if index >= count:
    raise Mistake(f"{VARIABLES[2]}={index}; wanted less than {VARIABLES[1]}={count}")
  return address, count, index


def check_shared(folder):
  """Raises Mistake unless all processes of the run see the same folder."""
  if jax.process_count() == 1:
    return
  is_first = jax.process_index() == 0
  token = multihost_utils.broadcast_one_to_all(np.int32(os.getpid()))
  file = Path(folder) / f"shared-{token}"
  if is_first:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
  multihost_utils.sync_global_devices("lm_shared")
  end_s = time.monotonic() + WAIT_S
  while not file.exists() and time.monotonic() < end_s:
    time.sleep(0.1)
  seen = multihost_utils.process_allgather(np.int32(file.exists()))
  if is_first:
    file.unlink()
  if not seen.all():
    raise Mistake(
      f"{folder} is not the same folder on all machines of this run; wanted a "
      "--workdir on a file system that they share"
    )
