"""Tables by name: records with named columns; "jsonl:PATH", "csv:PATH", "vader:movies".

A kind is a module of this folder; "name" or "name:argument" names a table. It has
  read(argument, *, cache) -> {"train": records} and perhaps {"heldout": records}:
    sequences of dicts, all with the same columns. A column without a value is None.
    Raises Mistake for what is missing or broken, with the number of the line.
  ARGUMENT  what the argument is, in words; only in a kind that wants one
Adding the file is registering it.
"""

import importlib
from collections.abc import Sequence

from lm import lookup
from lm.errors import Mistake


def read(table: str, *, cache) -> dict[str, Sequence[dict]]:
  """Returns the records of a table by split: "train", and "heldout" where it has one.

  Packages are fetched into the folder `cache`. Raises Mistake for an unknown name, for
  a table without records and for what its kind refuses.
  """
  module, argument = resolve(table)
  splits = module.read(argument, cache=cache)
  for split, records in splits.items():
    if not records:
      raise Mistake(f"{table} has no records in its split {split!r}")
  return splits


def resolve(table: str) -> tuple:
  """Returns (module, argument) of a table's name; Mistake lists the kinds."""
  name, _, argument = table.partition(":")
  if name in lookup.names(__name__):
    module = importlib.import_module(f"{__name__}.{name}")
    if bool(argument) == hasattr(module, "ARGUMENT"):
      return module, argument
  raise Mistake(f"no table {table!r}; found: {', '.join(_descriptions())}")


def column(records: Sequence[dict], name: str, table: str) -> list:
  """Returns the values of a column; Mistake lists the columns that there are."""
  if name not in records[0]:
    columns = ", ".join(map(repr, records[0]))
    raise Mistake(f"{table} has no column {name!r}; found: {columns}")
  return [record.get(name) for record in records]


def _descriptions() -> list[str]:
  names = []
  for name in lookup.names(__name__):
    argument = getattr(importlib.import_module(f"{__name__}.{name}"), "ARGUMENT", "")
    names.append(f"{name}:... ({argument})" if argument else name)
  return names
