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
  """A file is not what it was when its digest was taken; says which and how."""


def write(folder: Path) -> None:
  """Writes `SHA256SUMS` over all files of `folder`, and all of it through to the disk.

  After it, a rename of the folder can be trusted over a loss of power. Raises OSError.
  """
  lines = []
  for where, _, names in os.walk(folder):
    for path in sorted(Path(where) / name for name in names):
      with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
      lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
  body = "".join(lines).encode()
  with (folder / SUMS).open("wb") as file:
    file.write(body + _seal(body))
    file.flush()
    os.fsync(file.fileno())
  for where, _, _ in os.walk(folder):
    sync_folder(where)


def read(folder: Path) -> dict[str, str]:
  """The digest of every file of `folder`, by its name; raises Damaged."""
  text = _bytes(folder, SUMS)
  body = text[: text.rfind(b"#")] if b"#" in text else b""
  if text != body + _seal(body):
    raise Damaged(f"{SUMS} does not match its own digest")
  pairs = (line.split("  ", 1) for line in body.decode().splitlines())
  return {name: digest for digest, name in pairs}


def of(folder: Path) -> str:
  """One digest of all files of `folder`, as they were when it was written."""
  return hashlib.sha256(_bytes(folder, SUMS)).hexdigest()


def check(folder: Path, *, only=lambda name: True) -> None:
  """Raises Damaged on the first file that is missing or differs.

  `only` chooses by name which files are read; the list itself is always checked.
  """
  for name, digest in read(folder).items():
    if only(name):
      check_file(folder, name, digest)


def check_file(folder: Path, name: str, digest: str) -> None:
  with _plain(name), (folder / name).open("rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
  if found != digest:
    raise Damaged(f"{name} has changed")


@contextlib.contextmanager
def _plain(name: str):
  """Turns what a lost file or a bad sector raises into Damaged."""
  try:
    yield
  except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
    raise Damaged(f"{name} is missing") from error
  except OSError as error:
    if error.errno != errno.EIO:
      raise
    raise Damaged(f"{name} cannot be read") from error


def _bytes(folder: Path, name: str) -> bytes:
  with _plain(name):
    return (folder / name).read_bytes()


def _seal(body: bytes) -> bytes:
  return b"# %s is the digest of the lines above\n" % (
    hashlib.sha256(body).hexdigest().encode()
  )


def reason(error: BaseException) -> str:
  """Why the disk refused, in the system's words; else the first line of the error."""
  cause = error
  while cause is not None:
    if isinstance(cause, OSError) and cause.strerror:
      return cause.strerror
    cause = cause.__cause__ or cause.__context__
  text = str(error)
  if os.strerror(errno.ENOSPC) in text:  # TensorStore's errors are text only
    return os.strerror(errno.ENOSPC)
  return text.splitlines()[0] if text else type(error).__name__
