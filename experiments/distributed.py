"""Several processes of one run: how they find each other, and the folder they share."""

import os
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from lm.errors import Mistake

WHO = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
WAIT_S = 60  # so long may a network file system take to show a new file elsewhere


def start():
  """Joins the other processes of the run, when the launcher has started several.

  On SLURM and TPU pods launch.sh sets LM_DISTRIBUTED and JAX finds out the rest;
  elsewhere the three variables of WHO say who is who. Mistake when they do not.
  """
  told = {name: os.environ[name] for name in WHO if name in os.environ}
  if "LM_DISTRIBUTED" in os.environ and len(told) < len(WHO):
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise Mistake(
        f"LM_DISTRIBUTED is set, but here is no SLURM job and no TPU pod ({error}); "
        f"unset it, or set {', '.join(WHO)}"
      ) from error
  elif told:
    jax.distributed.initialize(*_who(told))


def _who(told: dict) -> tuple[str, int, int]:
  """(address, number of processes, index of this one)."""
  address, *numbers = (told.get(name, "") for name in WHO)
  for name in WHO:
    if not told.get(name):
      raise Mistake(f"{name} is not set; {', '.join(WHO)} are to be set together")
  for name, value in zip(WHO[1:], numbers, strict=True):
    if not value.isdecimal():
      raise Mistake(f"{name}={value}; wanted a number")
  count, index = map(int, numbers)
  if index >= count:
    raise Mistake(f"{WHO[2]}={index}; wanted less than {WHO[1]}={count}")
  return address, count, index


def check_shared(folder):
  """Raises Mistake when the folder is not the same one for all processes."""
  if jax.process_count() == 1:
    return
  first = jax.process_index() == 0
  token = multihost_utils.broadcast_one_to_all(np.int32(os.getpid()))
  file = Path(folder) / f"shared-{token}"
  if first:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
  multihost_utils.sync_global_devices("lm_shared")
  end_s = time.monotonic() + WAIT_S
  while not file.exists() and time.monotonic() < end_s:
    time.sleep(0.1)
  seen = multihost_utils.process_allgather(np.int32(file.exists()))
  if first:
    file.unlink()
  if not seen.all():
    raise Mistake(
      f"{folder} is not the same folder on all machines of this run; wanted a "
      "--workdir on a file system that they share"
    )
