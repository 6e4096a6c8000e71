"""Digests of a folder's files, so that a single wrong bit is noticed.

`SHA256SUMS` is in the format of the tool of that name: `sha256sum -c SHA256SUMS` checks
a checkpoint by hand. Its last line is a comment that holds the digest of the lines
above it, so that the list cannot change unnoticed either.
"""

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from lm.disk.atomic import sync_folder

SUMS = "SHA256SUMS"


class Damaged(Exception):
  """A file has changed since its digest was taken; the message names the file."""


def write(folder: Path) -> None:
  """Writes `SHA256SUMS` over all files of `folder`, and flushes everything to disk.

  Renaming the folder afterwards survives a power cut. Raises OSError.
  """
  lines = []
  for parent, _, names in os.walk(folder):
    for path in sorted(Path(parent) / name for name in names):
      with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
      lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
  body = "".join(lines).encode()
  with (folder / SUMS).open("wb") as file:
    file.write(body + _seal(body))
    file.flush()
    os.fsync(file.fileno())
  for parent, _, _ in os.walk(folder):
    sync_folder(parent)


def read(folder: Path) -> dict[str, str]:
  """Returns {file name: digest} of a folder; raises Damaged if the list has changed."""
  text = read_bytes(folder, SUMS)
  body = text[: text.rfind(b"#")] if b"#" in text else b""
  if text != body + _seal(body):
    raise Damaged(f"{SUMS} does not match its own digest")
  pairs = (line.split("  ", 1) for line in body.decode().splitlines())
  return {name: digest for digest, name in pairs}


def of(folder: Path) -> str:
  """Returns one digest of all files of `folder`, as of when it was written."""
  return hashlib.sha256(read_bytes(folder, SUMS)).hexdigest()


def check(folder: Path, *, only=lambda name: True) -> None:
  """Raises Damaged on the first file that is missing or has changed.

  `only(name)` is true for the files to read; the list itself is always checked.
  """
  for name, digest in read(folder).items():
    if only(name):
      check_file(folder, name, digest)


def check_file(folder: Path, name: str, digest: str) -> None:
  """Raises Damaged unless a file has this digest."""
  with _damage_of(name), (folder / name).open("rb") as file:
    actual = hashlib.file_digest(file, "sha256").hexdigest()
  if actual != digest:
    raise Damaged(f"{name} has changed")


@contextlib.contextmanager
def _damage_of(name: str):
  """Raises Damaged in place of the OSError of a lost file or a bad sector."""
  try:
    yield
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
    raise Damaged(f"{name} is missing") from error
  except OSError as error:
    if error.errno != errno.EIO:
      raise
    raise Damaged(f"{name} cannot be read") from error


def read_bytes(folder: Path, name: str) -> bytes:
  """Returns the bytes of a file; raises Damaged if it is lost."""
  with _damage_of(name):
    return (folder / name).read_bytes()


def _seal(body: bytes) -> bytes:
  return b"# %s is the digest of the lines above\n" % (
    hashlib.sha256(body).hexdigest().encode()
  )


def reason(error: BaseException) -> str:
  """Returns why the disk refused, as the system words it; else the first line."""
  cause = error
  while cause is not None:
    if isinstance(cause, OSError) and cause.strerror:
      return cause.strerror
    cause = cause.__cause__ or cause.__context__
  text = str(error)
  if os.strerror(errno.ENOSPC) in text:  # TensorStore's errors are text only
    return os.strerror(errno.ENOSPC)
  return text.splitlines()[0] if text else type(error).__name__
