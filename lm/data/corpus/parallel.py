"""An ordered map over processes, which start only when there is enough work."""

import collections
import contextlib
import os
import sys
import types

# Starting processes costs more than they save on less text than this.
ALONE = 16 << 20


class Workers:
  """A pool of up to `num` processes (None: one a core), started when `map` needs it."""

  def __init__(self, num: int | None = None):
    self._num = usable_cores() if num is None else num
    self._pool = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)

  def map(self, function, items, *, size: float, done=None):
    """Yields function(item) for each item, in order; engines.py says what `done` is.

    Items of a `size` of up to ALONE characters together are run in this process, others
    in a pool that holds at most 2 * num items at a time.
    """
    if size <= ALONE or self._num < 2:
      yield from map(function, items)
      return
    waiting = collections.deque()
    for item in items:
      waiting.append(self._submit(function, item))
      if len(waiting) >= 2 * self._num:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()

  def _submit(self, function, item):
    if self._pool is None:
      import multiprocessing
      from concurrent.futures import ProcessPoolExecutor

      # Not fork: jax starts threads, and a fork would copy the locks that they hold.
      spawn = multiprocessing.get_context("spawn")
      self._pool = ProcessPoolExecutor(self._num, spawn, initializer=_begin)
    with _no_main():
      return self._pool.submit(function, item)


@contextlib.contextmanager
def _no_main():
  """Hides the main module while a process starts, which would import it again.

  The import costs seconds (jax), and a script without `if __name__ == "__main__"`
  would start itself over and over. The functions that are mapped are in lm, so that
  the processes need no main module.
  """
  main = sys.modules["__main__"]
  sys.modules["__main__"] = types.ModuleType("__main__")
  try:
    yield
  finally:
    sys.modules["__main__"] = main


def usable_cores() -> int:
  """The number of cores that this process may run on."""
  if hasattr(os, "sched_getaffinity"):  # fewer than cpu_count in a container; no macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def grouped(items, size_of, limit: int):
  """Yields lists of consecutive items, each as short as reaches `limit` in size."""
  group, size = [], 0
  for item in items:
    group.append(item)
    size += size_of(item)
    if size >= limit:
      yield group
      group, size = [], 0
  if group:
    yield group


def _begin():
  """Prepares a process of the pool."""
  import threading

  os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core is enough
  threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent():
  """Ends this process with its parent; else idle ones outlive a parent's kill -9."""
  from multiprocessing import connection, parent_process

  connection.wait([parent_process().sentinel])
  os._exit(1)
