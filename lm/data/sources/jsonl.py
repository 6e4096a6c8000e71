"""Files with one JSON object a line: the text in "text", perhaps a name in "id"."""

import glob
import hashlib
import json
import pathlib
import re
from dataclasses import dataclass

from lm.data.sources import _chunks, _records
from lm.disk import atomic, compressed, paths
from lm.errors import Mistake

VERSION = 1
ARGUMENT = (
  "a file with one JSON object a line and the text in its field 'text', or a pattern "
  "of them such as 'data/*.jsonl.gz'"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BOM = _records.BOM.encode()  # also inside: files are joined with `cat`


def chunks(pattern: str, *, cache) -> list:
  """A document a line; about 5% are held out by hash, so that equal lines are together.

  A file is read in parts, or as a whole if it is compressed. Only "text" and "id" are
  looked at: what JSON does not have (NaN) may stand beside them.
  """
  files = _files(pattern)
  result = [chunk for file in files for chunk in _chunks_of(file)]
  # Reading the first document raises now for a file of another kind.
  if not any(next(chunk.read(), None) for chunk in result):
    raise Mistake(f"{pattern} is empty; wanted one JSON object a line")
  return result


def content(pattern: str, *, cache) -> str:
  """A hash of the bytes of the files, and of the names of several."""
  files = _files(pattern)
  digests = [(file.name, atomic.sha256_of_file(file)) for file in files]
  if len(digests) == 1:
    return digests[0][1]
  return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _files(pattern: str) -> list[pathlib.Path]:
  """Returns the files of a path or a pattern, sorted; Mistake without one."""
  path = paths.local(pattern)
  if path.is_file():
    return [path]
  names = sorted(glob.glob(str(path), recursive=True))
  files = [file for file in map(pathlib.Path, names) if file.is_file()]
  if not files:
    raise Mistake(
      f"no file {pattern}; wanted jsonl:PATH of a .jsonl file, or of several"
    )
  return files


def _chunks_of(file: pathlib.Path):
  """Yields the chunks of a file, none of an empty one."""
  size = file.stat().st_size
  if compressed.kind(file):
    yield Lines(file, 0, None, 1, size)
    return
  start, line = 0, 1
  with file.open("rb") as data:
    while start < size:
      part = data.read(_chunks.CHUNK_BYTES)
      rest = data.readline()
      end = start + len(part) + len(rest)
      yield Lines(file, start, end, line, end - start)
      start, line = end, line + part.count(b"\n") + rest.count(b"\n")


@dataclass(frozen=True)
class Lines:
  """The lines of a file from one offset to another, None for its end."""

  path: pathlib.Path
  start: int
  end: int | None
  first: int  # the number of the first line
  num_bytes: int

  def read(self):
    size = self.path.stat().st_size
    with compressed.open(self.path) as file:
      file.seek(self.start)
      place = self.start
      for number, line in enumerate(file, self.first):
        place += len(line)
        if content := line.removeprefix(_BOM).strip():
          where, name = f"{self.path} line {number}", f"{self.path.name}:{number}"
          yield _record(line, where, name), _records.hash64(content)
        if self.end is not None and place >= self.end:
          break
    is_cut = self.end is not None and place < self.end
    if is_cut or self.path.stat().st_size != size:
      raise Mistake(f"{self.path} changed while it was read; start again")


def _record(line: bytes, where: str, name: str) -> dict:
  """The record of a line; `name` is its id if it has none of its own."""
  record = _records.from_json(line, where)
  if not isinstance(record, dict) or not isinstance(record.get("text"), str):
    shown = type(record).__name__
    if isinstance(record, dict):
      shown = {key: type(value).__name__ for key, value in sorted(record.items())}
    raise Mistake(f"{where}: wanted an object with a string 'text', got {shown}")
  if type(record.get("id")) in (str, int):
    name = str(record["id"])
  # JSON can spell half a character ("\ud800"), which no encoding can hold.
  texts = {"id": name, "text": record["text"]}
  return {key: _SURROGATES.sub("\ufffd", value) for key, value in texts.items()}
