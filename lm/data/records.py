"""Records of tables: complete ones, each once, some of them held out."""

import collections
import unicodedata
from dataclasses import dataclass

from lm.data import tables
from lm.data.sources._records import hash64

EVERY = 10  # one record of ten is held out where the tables have no split of their own
GROUP = "group"  # our name of the column whose equal values are never split


@dataclass(frozen=True)
class Splits:
  """Records as dicts by our names of columns, and what was left out."""

  train: list[dict]
  heldout: list[dict]
  left_out: dict[str, int]  # records by reason


def read(train: str, heldout: str, columns: dict, *, key, cache) -> Splits:
  """Returns the records of tables by split, with the columns that are wanted.

  `columns` are our names and the tables' names of columns. A record without a value in
  one of them is left out, and so is one of the training split whose `key(record)`, a
  text, is there before, or held out: texts are compared without regard to case, width
  and white space. Records with the same value in our column "group" (an article, a
  work) are all held out, or none is.

  Without a held-out table, and without a held-out split of the training table, a tenth
  of the groups, or of the keys, is held out by hash: the same ones when the table
  grows. Raises Mistake for a column that does not exist.
  """
  left_out = collections.Counter()
  splits = tables.read(train, cache=cache)
  if heldout:
    given = tables.read(heldout, cache=cache)
    # TFDS's own held-out split of a dataset, or the only split of a file.
    splits = {"train": splits["train"], "heldout": given.get("heldout", given["train"])}
  names = {"train": train, "heldout": heldout or train}
  if GROUP not in columns and all(GROUP in rows[0] for rows in splits.values()):
    columns = columns | {GROUP: GROUP}
  complete = {
    split: _complete(records, columns, names[split], left_out)
    for split, records in splits.items()
  }
  key_of = lambda record: normal(key(record))
  if "heldout" not in complete:
    kept, parts = _once(complete["train"], key_of, (set(), set()), left_out), ([], [])
    for record in kept:
      unit = str(record[GROUP]) if GROUP in record else key_of(record)
      parts[hash64(unit.encode()) % EVERY == 0].append(record)
    return Splits(*parts, dict(left_out))
  held_out = (
    {key_of(record) for record in complete["heldout"]},
    {str(record[GROUP]) for record in complete["heldout"] if GROUP in record},
  )
  complete["train"] = _once(complete["train"], key_of, held_out, left_out)
  return Splits(**complete, left_out=dict(left_out))


def normal(text: str) -> str:
  """Returns a text by which two are the same: without case, width and white space."""
  return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _complete(records, columns: dict, table: str, left_out) -> list[dict]:
  values = {
    name: tables.column(records, column, table) for name, column in columns.items()
  }
  complete = []
  for row in zip(*values.values(), strict=True):
    record = dict(zip(values, row, strict=True))
    lacking = [columns[name] for name, value in record.items() if _is_empty(value)]
    if lacking:
      left_out[f"no {lacking[0]}"] += 1
    else:
      complete.append(record)
  return complete


def _is_empty(value) -> bool:
  return value is None or (isinstance(value, str) and not value.strip())


def _once(records, key_of, held_out: tuple[set, set], left_out) -> list[dict]:
  """Returns the records whose key is neither held out nor there before."""
  (held_keys, held_groups), seen, kept = held_out, set(), []
  for record in records:
    key = key_of(record)
    if key in held_keys:
      left_out["held out as well"] += 1
    elif GROUP in record and str(record[GROUP]) in held_groups:
      left_out["of a group that is held out"] += 1
    elif key in seen:
      left_out["repeated"] += 1
    else:
      seen.add(key)
      kept.append(record)
  return kept
