"""A map over processes that start only when there is work enough for them."""

import collections
import contextlib
import os
import sys
import types

# Starting processes costs more than they save on less text than this.
ALONE = 16 << 20


class Workers:
  """Up to `num` processes (None: one for each core), none until `map` wants them."""

  def __init__(self, num: int | None = None):
    self._num = usable_cores() if num is None else num
    self._pool = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._pool is not None:
      self._pool.shutdown(cancel_futures=True)

  def map(self, function, items, *, size_of):
    """function(item) of each, in order; the first ones, ALONE in size, are done here.

    Later items are read as they are handed out, a few in front: no more of them are in
    memory than that, unless the caller keeps what it gets, as cleaning does.
    """
    done, waiting = 0, collections.deque()
    for item in items:
      if done < ALONE or self._num < 2:
        done += size_of(item)
        yield function(item)
        continue
      waiting.append(self._submit(function, item))
      if len(waiting) >= 2 * self._num:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()

  def _submit(self, function, item):
    if self._pool is None:
      import multiprocessing
      from concurrent.futures import ProcessPoolExecutor

      # Never fork: a process that has started jax has threads whose locks a fork would
      # copy and nobody would ever free.
      spawn = multiprocessing.get_context("spawn")
      self._pool = ProcessPoolExecutor(self._num, spawn, initializer=_begin)
    with _no_main():
      return self._pool.submit(function, item)


@contextlib.contextmanager
def _no_main():
  """Hides the main module while a process starts, which would import it again.

  That costs seconds (jax), and a script that calls us outside of `if __name__ ==
  "__main__"` would start itself over and over. Our functions live in lm, not in it.
  """
  main = sys.modules["__main__"]
  sys.modules["__main__"] = types.ModuleType("__main__")
  try:
    yield
  finally:
    sys.modules["__main__"] = main


def usable_cores() -> int:
  if hasattr(os, "sched_getaffinity"):  # fewer than cpu_count in a container; no macOS
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def grouped(items, size_of, limit: int):
  """Lists of consecutive items; each but the last reaches `limit` in size, just so."""
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
  import threading

  os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process a core is enough
  threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent():
  """The idle workers of a pool would outlive a parent that is killed with -9."""
  from multiprocessing import connection, parent_process

  connection.wait([parent_process().sentinel])
  os._exit(1)
