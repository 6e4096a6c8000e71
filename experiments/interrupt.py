"""Ctrl-C and SIGTERM: the first asks the loop to save and stop, the second exits."""

import contextlib
import os
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# `timeout`, `srun` and shells signal the process and then its group: a second signal
# sooner than a hand can press again is the first one's echo.
_ECHO_S = 0.2


class Interrupt:
  """A context manager: `number` is that of the first SIGINT or SIGTERM in it, else 0.

  `line` is what the user is told at the first.

  The second signal ends the process at once, with 130 or 143, as a shell reports them.
  A thread listens, because Python runs a handler only between two bytecodes, and a
  compilation takes minutes. Enter it in the main thread, after
  `jax.distributed.initialize`, which takes SIGTERM for itself.
  """

  def __init__(self, line="saving, then stopping"):
    self._line = line
    self.number = 0  # also that of another process, once `agreed`
    self._answer = (-1, False)  # the newest step of `agreed`, and its result
    self._maximum = None  # that of all processes' numbers, started at that step

  def agreed(self, step: int) -> bool:
    """Returns True if the run is to stop after this step, the same on all processes.

    Every process calls it at every step. With several, a signal counts one step late:
    the result is the maximum of their numbers at the step before, which the devices
    have computed by now, so that the call never waits for them.
    """
    if jax.process_count() == 1:
      return self.number > 0
    if step != self._answer[0]:
      before, self._maximum = self._maximum, _start_maximum(self.number)
      number = 0 if before is None else int(np.asarray(before))
      self.number = max(self.number, number)
      self._answer = (step, number > 0)
    return self._answer[1]

  def __enter__(self):
    read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._before = {s: signal.signal(s, _nothing) for s in _SIGNALS}
    self._wakeup = signal.set_wakeup_fd(self._write)
    self._thread = threading.Thread(
      target=self._listen, args=(read,), name="interrupt", daemon=True
    )
    self._thread.start()
    return self

  def __exit__(self, *error):
    signal.set_wakeup_fd(self._wakeup)
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._write)  # the end of the pipe ends the thread
    self._thread.join()

  def _listen(self, read: int) -> None:
    first_s = None
    with open(read, "rb", buffering=0) as pipe:
      while number := pipe.read(1):
        if number[0] not in _SIGNALS:
          continue
        now_s = time.monotonic()
        if first_s is None:
          first_s = now_s
          self.number = self.number or number[0]
          _print(f"{self._line}; press Ctrl-C again to stop at once")
        elif now_s - first_s > _ECHO_S:
          os._exit(128 + number[0])


def _print(line: str) -> None:
  """Prints a line to stderr, if it is still open."""
  start = "\n" if sys.stderr.isatty() else ""  # off the progress bar
  # The thread must go on listening for the second signal when stderr is closed.
  with contextlib.suppress(OSError):
    print(start + line, file=sys.stderr, flush=True)


def _nothing(number, frame):
  """Does nothing: Python writes to the wake-up pipe only for signals with a handler."""


def _start_maximum(number: int):
  """Returns the maximum of all processes' numbers, an array still being computed."""
  devices = np.array(jax.devices())
  split = NamedSharding(Mesh(devices, ("all",)), PartitionSpec("all"))
  local = np.full(jax.local_device_count(), number, np.int32)
  return _max(jax.make_array_from_process_local_data(split, local, devices.shape))


_max = jax.jit(jnp.max)
