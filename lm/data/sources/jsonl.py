"""Files with one JSON object a line: the text in "text", perhaps a name in "id".

About 5% are held out by hash, so that equal lines are together. A file is read in
parts, or as a whole if it is compressed. What JSON does not have (NaN) may stand beside
the two fields.
"""

import pathlib
import re
from dataclasses import dataclass

from lm.data.sources import _chunks, _globs, _records
from lm.disk import compressed
from lm.errors import Mistake

VERSION = 1
ARGUMENT = (
  "a file with one JSON object a line and the text in its field 'text', or a pattern "
  "of them such as 'data/*.jsonl.gz'"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BOM = _records.BOM.encode()  # also inside: files are joined with `cat`


def of_file(file: pathlib.Path):
  """Yields the chunks of a file, none of an empty one."""
  size = file.stat().st_size
  if compressed.kind(file):
    yield Lines(file, 0, None, 1, size, size)
    return
  start, line = 0, 1
  with _globs.unchanged(file, size), file.open("rb") as data:
    while start < size and (part := data.read(_chunks.CHUNK_BYTES)):
      rest = data.readline()
      end = start + len(part) + len(rest)
      yield Lines(file, start, end, line, end - start, size)
      start, line = end, line + part.count(b"\n") + rest.count(b"\n")


chunks, content = _globs.source(
  of_file, "jsonl:PATH of a .jsonl file", "one JSON object a line"
)


@dataclass(frozen=True)
class Lines:
  """The lines of a file from one offset to another, None for its end."""

  path: pathlib.Path
  start: int
  end: int | None
  first: int  # the number of the first line
  num_bytes: int
  size: int  # of the file

  def read(self):
    with (
      _globs.unchanged(self.path, self.size),
      compressed.open(self.path) as file,
    ):
      file.seek(self.start)
      place = self.start
      for number, line in enumerate(file, self.first):
        place += len(line)
        if stripped := line.removeprefix(_BOM).strip():
          where, name = f"{self.path} line {number}", f"{self.path.name}:{number}"
          yield record(line, where, name), _records.hash64(stripped)
        if self.end is not None and place >= self.end:
          break


def record(line: bytes, where: str, name: str) -> dict:
  """The record of a line; `name` is its id if it has none of its own."""
  fields = _records.from_json(line, where)
  if not isinstance(fields, dict) or not isinstance(fields.get("text"), str):
    shown = type(fields).__name__
    if isinstance(fields, dict):
      shown = {key: type(value).__name__ for key, value in sorted(fields.items())}
    raise Mistake(f"{where}: wanted an object with a string 'text', got {shown}")
  if type(fields.get("id")) in (str, int):
    name = str(fields["id"])
  # JSON can spell half a character ("\ud800"), which no encoding can hold.
  texts = {"id": name, "text": fields["text"]}
  return {key: _SURROGATES.sub("\ufffd", value) for key, value in texts.items()}
