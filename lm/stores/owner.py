"""The run that owns a folder: one at a time writes there, and any number read."""

import contextlib

from lm.checkpoint.processes import agreed
from lm.disk import locks

LOCK = ".lock"  # says who the owner is; see lm.disk.locks


class Owner:
  """Whether a run owns a folder; `inner` are the folders that it makes there."""

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
    is_new = not self._path.exists()
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
      if is_new:
        _remove_if_empty(self._path)
      raise

  @contextlib.contextmanager
  def _holding(self):
    created = [path for path in self._inner if not path.exists()]
    self._is_held = True
    try:
      yield
    except BaseException:
      for path in created:
        _remove_if_empty(path)
      raise
    finally:
      self._is_held = False


def _remove_if_empty(folder):
  with contextlib.suppress(OSError):  # of a folder that holds something
    folder.rmdir()
