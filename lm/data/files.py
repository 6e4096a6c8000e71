"""Files that are whole or absent, whatever dies when; locks; what a file holds."""

import contextlib
import fcntl
import hashlib
import os
from pathlib import Path


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
