"""The run that owns a folder: one at a time writes there, and any number read."""

import contextlib

import jax

from lm.checkpoint.processes import agreed
from lm.disk import locks

LOCK = ".lock"  # says who the owner is; see lm.disk.locks


class Owner:
  """A run's claim to a folder; `inner` are the folders that it makes there."""

  def __init__(self, path, *inner):
    self._path, self._inner, self._is_held = path, inner, False

  @contextlib.contextmanager
  def held(self, log=print):
    """Owns the folder, which is made where there is none, while the block runs.

    All processes of a run call it; within the block another call does nothing. Raises
    Mistake when another run owns the folder, with who and since when, and when it
    cannot be written. An error leaves no new and empty folder behind.
    """
    if self._is_held:
      yield
      return
    created = _absent(self._path)
    lock = locks.only(
      self._path / LOCK,
      what=self._path,
      advice="wait until it ends, or choose another --workdir",
      log=log,
    )
    try:
      with contextlib.ExitStack() as held:
        agreed(lambda: held.enter_context(lock) or 0)
        held.enter_context(self._holding())
        yield
    except BaseException:
      _remove_empty(created)
      raise

  @contextlib.contextmanager
  def _holding(self):
    created = _absent(*self._inner)
    self._is_held = True
    try:
      yield
    except BaseException:
      _remove_empty(created)
      raise
    finally:
      self._is_held = False


def _absent(*folders) -> list:
  """Returns those that do not exist, on process 0.

  Another machine that looks for a folder too early misses it for a while afterwards.
  """
  if jax.process_index():
    return []
  return [folder for folder in folders if not folder.exists()]


def _remove_empty(folders):
  for folder in folders:
    with contextlib.suppress(OSError):  # of a folder that holds something
      folder.rmdir()
