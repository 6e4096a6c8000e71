"""Files that are whole or absent, whatever dies when; locks; what a file holds."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from lm.errors import Mistake


def write_atomically(path, data):
  """Writes bytes (or anything with a buffer) so that `path` is old, new or absent."""
  path = Path(path)
  # The process in the name: two writers of one file must not write into each other.
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:  # a full disk must not stay full of halves
    temporary.unlink(missing_ok=True)
  sync_folder(path.parent)


def rename_folder(source, target):
  """Moves a finished folder into place for good."""
  sync_folder(source)
  os.rename(source, target)
  sync_folder(Path(target).parent)


def sync_folder(folder):
  """Makes the names in a folder survive a power cut."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


class Done(set):
  """What was done so far: for good, in the lines of a file, when `add` returns."""

  def __init__(self, file, of: str):
    self._file = file
    file.seek(0)
    whole = file.read().rpartition(b"\n")[0]  # the last line may be cut off
    told, *items = whole.decode().split("\n")
    if of and told == of:
      super().__init__(items)
      file.truncate(len(whole) + 1)
    else:
      file.truncate(0)
      self._write(of)

  def add(self, item: str):
    self._write(item)
    super().add(item)

  def _write(self, line: str):
    self._file.write(f"{line}\n".encode())
    os.fsync(self._file.fileno())


@contextlib.contextmanager
def making(target, of: str = ""):
  """(folder, Done) of a hidden folder beside `target`, which takes its name at the end.

  A block that is killed, or that the system refuses something, leaves the folder if
  anything was `Done`, for the next block with the same `of`: one line that tells all
  that the result depends on. Else it begins empty. Raises Mistake when `target`
  exists, when another process is making it, and in place of an OSError.
  """
  target = Path(target)
  folder = target.with_name(f".{target.name}.part")
  folder.mkdir(parents=True, exist_ok=True)
  note = folder / ".done"
  with open(note, "a+b", buffering=0) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise Mistake(f"another process is making {target}; wait for it") from error
    if target.exists():  # perhaps that other process has made it meanwhile
      shutil.rmtree(folder, ignore_errors=True)
      raise Mistake(f"{target} exists; choose another, or move it away")
    done = Done(file, of)
    for path in folder.rglob(".*.tmp") if done else set(folder.iterdir()) - {note}:
      shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
      yield folder, done
      rename_folder(folder, target)
      (target / note.name).unlink()
    except BaseException as error:
      stays = done and not isinstance(error, ValueError)
      if not stays:
        shutil.rmtree(folder, ignore_errors=True)
      told = f"the same command goes on with what is in {folder}"
      _explain(error, target, told if stays else "the same command starts it again")
      raise


def _explain(error: BaseException, target, told: str):
  """Raises what the user can mend, or did, with a line about it."""
  if isinstance(error, OSError):
    reason = error.strerror or error
    raise Mistake(f"{target} could not be made: {reason}; {told}") from error
  if isinstance(error, KeyboardInterrupt):
    raise KeyboardInterrupt(told) from error


@contextlib.contextmanager
def locked(path, *, log):
  """Holds a lock that the kernel frees when the process dies, however it dies."""
  with open(path, "ab") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      log(f"waiting for another process that holds {path}")
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def sha256_of_file(path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
