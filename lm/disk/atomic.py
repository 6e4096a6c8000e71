"""Files and folders that are whole or absent, whenever the process dies.

Everything is written under another name beside its target and renamed at the end.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from lm.disk import locks
from lm.errors import Mistake


def write(path, data):
  """Writes bytes, anything with a buffer, or text (UTF-8) to `path` in one step.

  Whatever happens, `path` has its old content, the new one, or does not exist.
  """
  with open(path) as file:
    file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def open(path):
  """A binary file to write into, which takes the name `path` when the block ends.

  If the block raises, `path` is untouched and nothing is left of the new file.
  """
  path = Path(path)
  # The process id keeps two writers of one path apart.
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:  # the half of a file must not fill a disk that is full already
    temporary.unlink(missing_ok=True)
  sync_folder(path.parent)


def rename_folder(source, target):
  """Renames a finished folder to `target` so that it survives a power cut."""
  sync_folder(source)
  os.rename(source, target)
  sync_folder(Path(target).parent)


def remove(path):
  """Removes a folder with all that is in it, a file, or a link, if there is one.

  Of a link, what it leads to stays.
  """
  path = Path(path)
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def sync_folder(folder):
  """Writes the names in a folder through to the disk: they survive a power cut."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


class Done(set):
  """A set of finished items that survives the process: one line of a file each.

  The first line of the file is `of`, a description of all inputs. A file with another
  description, or none, starts as an empty set. When `add` returns, the item is on disk.
  """

  def __init__(self, file, of: str):
    self._file = file
    file.seek(0)
    whole = file.read().rpartition(b"\n")[0]  # the last line may be cut off
    inputs, *items = whole.decode().split("\n")
    if of and inputs == of:
      super().__init__(items)
      file.truncate(len(whole) + 1)
    else:
      file.truncate(0)
      self._write(of)

  def add(self, item: str):
    """Adds an item and returns once it is on the disk."""
    self._write(item)
    super().add(item)

  def _write(self, line: str):
    self._file.write(f"{line}\n".encode())
    os.fsync(self._file.fileno())


@contextlib.contextmanager
def folder(target, of: str = ""):
  """(new folder, Done): a hidden folder beside `target`, renamed to it at the end.

  If the block is killed or meets an OSError after some items were marked done, the
  hidden folder stays, and the next call with the same `of` (one line that describes all
  inputs) goes on with it. Otherwise the folder starts empty and is removed on failure.

  Raises Mistake when `target` exists, when another process is making it, and in place
  of an OSError.
  """
  target = Path(target)
  hidden = target.with_name(f".{target.name}.part")
  note = hidden / ".done"
  try:
    if hidden.is_symlink():
      hidden.unlink()
    hidden.mkdir(parents=True, exist_ok=True)
    opened = note.open("a+b", buffering=0)
  except OSError as error:
    _explain(error, target, "choose a folder that can be written")
  with opened as file:
    if not locks.take(file):
      raise Mistake(f"another process is making {target}; wait for it")
    if os.path.lexists(target):  # perhaps that other process has made it meanwhile
      shutil.rmtree(hidden, ignore_errors=True)
      raise Mistake(f"{target} exists; choose another, or move it away")
    done = Done(file, of)
    for path in hidden.rglob(".*.tmp") if done else set(hidden.iterdir()) - {note}:
      remove(path)
    try:
      yield hidden, done
      rename_folder(hidden, target)
      (target / note.name).unlink()
    except BaseException as error:
      stays = done and not isinstance(error, ValueError)
      if not stays:
        shutil.rmtree(hidden, ignore_errors=True)
      resumes = f"the same command goes on with what is in {hidden}"
      _explain(error, target, resumes if stays else "the same command starts it again")
      raise


def _explain(error: BaseException, target, advice: str):
  """Raises a Mistake for an OSError, and KeyboardInterrupt with advice for Ctrl-C."""
  if isinstance(error, OSError):
    reason = error.strerror or error
    raise Mistake(f"{target} could not be made: {reason}; {advice}") from error
  if isinstance(error, KeyboardInterrupt):
    raise KeyboardInterrupt(advice) from error


def sha256_of_file(path) -> str:
  """Returns the SHA-256 of a file's bytes, in hex."""
  with Path(path).open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
