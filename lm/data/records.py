"""Records of tables: complete ones, each text once, some of them held out."""

import collections
import unicodedata
from dataclasses import dataclass

from lm.data import tables
from lm.data.sources._records import hash64

EVERY = 10  # one record of ten is held out where the tables have no split of their own


@dataclass(frozen=True)
class Splits:
  """Records as dicts by our names of columns, and what was left out."""

  train: list[dict]
  heldout: list[dict]
  left_out: dict[str, int]  # records by reason


def read(train: str, heldout: str, columns: tuple, *, cache) -> Splits:
  """Returns the records of tables by split, with the columns that are wanted.

  `columns` are pairs of our name and the tables' name of a column, ("text", ...) first.
  A record without a value in one of its columns is left out, and so is a text of the
  training split that is there before, or held out: texts are compared without regard
  to case, width and white space. Without a held-out table, and without a held-out split
  of the training table, a tenth of the texts is held out by hash: the same ones when
  the table grows. Raises Mistake for a column that does not exist.
  """
  left_out = collections.Counter()
  splits = tables.read(train, cache=cache)
  if heldout:
    given = tables.read(heldout, cache=cache)
    # TFDS's own held-out split of a dataset, or the only split of a file.
    splits = {"train": splits["train"], "heldout": given.get("heldout", given["train"])}
  names = {"train": train, "heldout": heldout or train}
  complete = {
    split: _complete(records, dict(columns), names[split], left_out)
    for split, records in splits.items()
  }
  if "heldout" in complete:
    held_texts = {normal(record["text"]) for record in complete["heldout"]}
    complete["train"] = _once(complete["train"], held_texts, left_out)
    return Splits(**complete, left_out=dict(left_out))
  kept, parts = _once(complete["train"], set(), left_out), ([], [])
  for record in kept:
    is_held = hash64(normal(record["text"]).encode()) % EVERY == 0
    parts[is_held].append(record)
  return Splits(*parts, dict(left_out))


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


def _once(records, held_out: set, left_out) -> list[dict]:
  """Returns the records whose text is neither held out nor there before."""
  seen, kept = set(), []
  for record in records:
    text = normal(record["text"])
    if text in held_out:
      left_out["held out as well"] += 1
    elif text in seen:
      left_out["repeated"] += 1
    else:
      seen.add(text)
      kept.append(record)
  return kept
