"""Files by a path or a pattern, and what may become of them while they are read."""

import contextlib
import glob
import hashlib
import json
import pathlib

from lm.disk import atomic, paths
from lm.errors import Mistake


def source(of_file, wanted: str, item: str) -> tuple:
  """Returns (chunks, content), the functions of a source of files.

  `of_file(file)` yields the chunks of a file; `wanted` says in messages what a source
  reads, and `item` what an empty one lacks.
  """

  def chunks(pattern: str, *, cache) -> list:
    """Returns the chunks of all files of a path or a pattern."""
    parts = (chunk for file in files(pattern, wanted) for chunk in of_file(file))
    return not_empty(parts, pattern, item)

  def content_of(pattern: str, *, cache) -> str:
    """Returns a hash of the bytes of the files, and of the names of several."""
    return content(files(pattern, wanted))

  return chunks, content_of


def files(pattern: str, wanted: str) -> list[pathlib.Path]:
  """Returns the files of a path or a pattern, sorted; Mistake without one.

  `wanted` says in the message what a source reads.
  """
  path = paths.local(pattern)
  if path.is_file():
    return [path]
  names = sorted(glob.glob(str(path), recursive=True))
  matches = [file for file in map(pathlib.Path, names) if file.is_file()]
  if not matches:
    raise Mistake(f"no file {pattern}; wanted {wanted}, or of several")
  return matches


def content(files: list) -> str:
  """Returns a hash of the bytes of the files, and of the names of several."""
  digests = [(file.name, atomic.sha256_of_file(file)) for file in files]
  if len(digests) == 1:
    return digests[0][1]
  return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def not_empty(chunks, pattern: str, wanted: str) -> list:
  """Returns the chunks as a list; Mistake if none of them has a document.

  Reading the first document raises now for a file of another kind.
  """
  chunks = list(chunks)
  if not any(next(chunk.read(), None) for chunk in chunks):
    raise Mistake(f"{pattern} is empty; wanted {wanted}")
  return chunks


@contextlib.contextmanager
def unchanged(path: pathlib.Path, size: int):
  """Raises Mistake if a file is gone or has another size, before a block or after it.

  `size` is that of the file when its chunks were listed. A Mistake of the block may
  come from that, too.
  """
  _check(path, size)
  try:
    yield
  except Mistake:
    _check(path, size)
    raise
  _check(path, size)


def _check(path: pathlib.Path, size: int):
  if not path.is_file():
    raise Mistake(f"{path} is gone since its chunks were listed; start again with it")
  now = path.stat().st_size
  if now != size:
    raise Mistake(
      f"{path} changed while it was read: it has {now} bytes, and had {size}; start "
      "again"
    )
