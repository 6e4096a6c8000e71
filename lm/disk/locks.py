"""Locks of the operating system: freed when a process ends, however it ends.

They hold between the machines of a network file system, where it has locks. Where it
has none, the work goes on with a line about that.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path

from lm.errors import Mistake

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take(file, *, wait: bool = False, log=print) -> bool:
  """Locks an open file until it is closed; returns False if another process has it.

  With `wait`, waits for that one. The file has to be open for writing, for NFS.
  """
  try:
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    log(f"{file.name} cannot be locked: run one process at a time there")
  return True


@contextlib.contextmanager
def locked(path, *, log):
  """Holds the lock of a file that stays; waits for another process that holds it.

  Raises Mistake when its folder, made where there is none, cannot be written.
  """
  with _opened(path) as file:
    if not take(file, log=log):
      log(f"waiting for another process that holds {path}")
      take(file, wait=True, log=log)
    yield


@contextlib.contextmanager
def only(path, *, what: str, advice: str, log=print):
  """Holds the lock of a new file, removed at the end, that says who has it.

  Raises Mistake as `locked`, and when another process has it: who, and since when.
  `what` is what it has, and `advice` what to do.
  """
  file = _locked(path, what, advice, log)
  with file:
    file.truncate(0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
    file.flush()
    try:
      yield
    finally:
      # Not an error of the block's: a file that stays without its lock hinders nobody.
      with contextlib.suppress(OSError):
        os.unlink(path)


def _locked(path, what: str, advice: str, log):
  """Returns the open and locked file of a path, whoever removes it meanwhile."""
  while True:
    with contextlib.ExitStack() as closing:
      file = closing.enter_context(_opened(path))
      if not take(file, log=log):
        file.seek(0)
        owner = file.read() or "another process"
        raise Mistake(f"{what} belongs to {owner}; {advice}")
      if _is_at(file, path):
        closing.pop_all()
        return file


def _opened(path):
  """Returns a file to lock, open, in a folder that is made where there is none."""
  path = Path(path)
  for tries_left in range(9, -1, -1):
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      return path.open("a+", encoding="utf-8")
    except OSError as error:
      if isinstance(error, FileNotFoundError) and tries_left:
        continue  # another process has removed the folder meanwhile
      raise Mistake(
        f"cannot write in {path.parent}: {error.strerror}; choose a folder that can be "
        "written"
      ) from error


def _is_at(file, path) -> bool:
  """Returns False if the path has been removed, or given to another file."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False
