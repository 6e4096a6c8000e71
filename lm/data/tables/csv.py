"""A file of comma-separated values, whose first line names the columns (RFC 4180)."""

import csv

from lm.data.sources import _records
from lm.data.tables import jsonl
from lm.disk import compressed
from lm.errors import Mistake

ARGUMENT = "a file of comma-separated values, the names of its columns in line 1"


def read(argument: str, *, cache) -> dict:
  """Returns the rows below the first; the file may be compressed."""
  return {"train": rows(argument, "csv", strict=True)}


def rows(argument: str, kind: str, **dialect) -> list[dict]:
  """Returns the rows of a file of separated values, read in a dialect of csv.reader."""
  path = jsonl.file(argument, kind)
  with compressed.open(path) as file:
    text = _records.decode(file.read(), str(path))
  reader = csv.reader(text.splitlines(keepends=True), **dialect)
  records, columns = [], next(reader, [])
  if len(set(columns)) < max(2, len(columns)):
    raise Mistake(f"{path} line 1: wanted names of columns, two or more, got {columns}")
  try:
    for row in reader:
      if not row:
        continue
      if len(row) != len(columns):
        raise Mistake(
          f"{path} line {reader.line_num}: {len(row)} values for {len(columns)} columns"
        )
      records.append(dict(zip(columns, row, strict=True)))
  except csv.Error as error:
    raise Mistake(f"{path} line {reader.line_num}: {error}") from error
  return records
