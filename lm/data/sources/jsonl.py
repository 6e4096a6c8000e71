"""A file with one JSON object a line: the text in "text", perhaps a name in "id"."""

import functools
import json
import pathlib
import re

import numpy as np

from lm.data.sources import _records
from lm.disk import atomic
from lm.errors import Mistake

VERSION = 1
ARGUMENT = "a file with one JSON object a line and the text in its field 'text'"
_SURROGATES = re.compile("[\ud800-\udfff]")


def documents(path: str, *, cache) -> dict:
  """A document a line; about 5% are held out by hash, so that equal lines are together.

  Lines are parsed when they are read; a bad one raises Mistake with its number.
  """
  path = _file(path)
  rows, hashes = [], []
  with path.open("rb") as file:
    start = 0
    for number, line in enumerate(file, 1):
      if line.strip():
        rows.append((number, start, len(line)))
        hashes.append(_records.hash64(line.strip()))
      start += len(line)
  if not rows:
    raise Mistake(f"{path} is empty; wanted one JSON object a line")
  read = functools.partial(_read, str(path))
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
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise Mistake(f"no file {path}; wanted jsonl:PATH of a .jsonl file")
  return file


def _read(path: str, row) -> dict:
  """The record of a line; `row` is its number, offset and size in bytes."""
  number, start, size = (int(value) for value in row)
  with open(path, "rb") as file:
    file.seek(start)
    line = file.read(size)
  where = f"{path} line {number}"
  try:
    record = json.loads(_records.decode(line, where))
  except json.JSONDecodeError as error:
    raise Mistake(f"{where} is not JSON: {error.msg} (column {error.colno})") from None
  if not isinstance(record, dict) or not isinstance(record.get("text"), str):
    shown = type(record).__name__
    if isinstance(record, dict):
      shown = {key: type(value).__name__ for key, value in sorted(record.items())}
    raise Mistake(f"{where}: wanted an object with a string 'text', got {shown}")
  name = record.get("id", f"{pathlib.Path(path).name}:{number}")
  # JSON can spell half a character ("\ud800"), which no encoding can hold.
  return {"id": str(name), "text": _SURROGATES.sub("\ufffd", record["text"])}
