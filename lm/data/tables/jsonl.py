"""A file with one JSON object a line, whose names are the columns."""

from lm.data.sources import _records
from lm.disk import compressed, paths
from lm.errors import Mistake

ARGUMENT = "a file with one JSON object a line"


def read(argument: str, *, cache) -> dict:
  """Returns the objects in their order; the file may be compressed."""
  path = file(argument, "jsonl")
  records = []
  with compressed.open(path) as lines:
    for number, line in enumerate(lines, 1):
      if content := line.strip():
        where = f"{path} line {number}"
        record = _records.from_json(content, where)
        if not isinstance(record, dict):
          raise Mistake(f"{where}: wanted an object, got {type(record).__name__}")
        records.append(record)
  return {"train": records}


def file(argument: str, kind: str):
  """Returns the path of an existing file; Mistake if there is none."""
  path = paths.local(argument)
  if not path.is_file():
    raise Mistake(f"no file {path}; wanted {kind}:PATH of one")
  return path
