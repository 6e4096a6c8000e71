"""A file with one JSON object a line: the text in "text", perhaps a name in "id"."""

import pathlib
import re

import numpy as np

from lm.data.sources import _records
from lm.disk import atomic, compressed, paths
from lm.errors import Mistake

VERSION = 1
ARGUMENT = "a file with one JSON object a line and the text in its field 'text'"
_SURROGATES = re.compile("[\ud800-\udfff]")


_BOM = _records.BOM.encode()  # also inside: files are joined with `cat`


def documents(path: str, *, cache) -> dict:
  """A document a line; about 5% are held out by hash, so that equal lines are together.

  The file may be compressed. Lines are parsed when they are read; a bad one raises
  Mistake with its number. Only "text" and "id" are looked at: what JSON does not have
  (NaN) may stand beside them.
  """
  path = _file(path)
  rows, hashes = [], []
  with compressed.open(path) as file:
    start = 0
    for number, line in enumerate(file, 1):
      if content := line.removeprefix(_BOM).strip():
        rows.append((number, start, len(line)))
        hashes.append(_records.hash64(content))
      start += len(line)
  if not rows:
    raise Mistake(f"{path} is empty; wanted one JSON object a line")
  read = _Lines(path)
  read(rows[0])  # raises now for a file of another kind, not later in a worker
  held = _records.held_by_hash(hashes, str(path))
  rows = np.array(rows, np.int64)
  return {
    "train": _records.Records(rows[~held], read),
    "heldout": _records.Records(rows[held], read),
  }


def content(path: str, *, cache) -> str:
  """A hash of the bytes of the file."""
  return atomic.sha256_of_file(_file(path))


def _file(path: str) -> pathlib.Path:
  file = paths.local(path)
  if not file.is_file():
    raise Mistake(f"no file {path}; wanted jsonl:PATH of a .jsonl file")
  return file


class _Lines:
  """The records of lines, by (number, offset, size in bytes).

  The file stays open: to come back to a place in a compressed file means to unpack all
  that is before it, and to go on from there costs nothing. Sent to another process, it
  is opened there.
  """

  def __init__(self, path):
    self.path, self._file = path, None

  def __getstate__(self):
    return {"path": self.path, "_file": None}

  def __call__(self, row) -> dict:
    number, start, size = (int(value) for value in row)
    with compressed.damage(self.path):
      self._file = self._file or compressed.reader(self.path)
      self._file.seek(start)
      line = self._file.read(size)
    return _record(line, f"{self.path} line {number}", f"{self.path.name}:{number}")


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
