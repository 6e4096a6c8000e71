"""A JSON object in a small file."""

import json
from pathlib import Path

from lm.errors import Mistake

MOST_BYTES = 100_000_000


def read(path) -> dict:
  """Returns the object in a file.

  Raises Mistake when there is no file, when it has more than MOST_BYTES, is no JSON or
  holds something other than an object.
  """
  path = Path(path)
  if not path.is_file():
    raise Mistake(f"no file {path}")
  if path.stat().st_size > MOST_BYTES:
    raise Mistake(f"{path} has over {MOST_BYTES} bytes; wanted a small JSON file")
  try:
    value = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise Mistake(f"{path} is damaged: {error}") from error
  if not isinstance(value, dict):
    raise Mistake(f"{path} holds no JSON object")
  return value
