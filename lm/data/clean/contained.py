"""Items of test sets in training text, which would make their scores mean nothing.

A set is a file of records, named as in lm.data.tables: "jsonl:PATH" or the path alone,
"csv:PATH", "tsv:PATH", "squad:PATH". Each text of a record is an item. A training text
contains an item with which it shares 13 words in a row, or all 8 to 12 words of a short
one (Brown et al. 2020, arXiv:2005.14165, appendix C); shorter items are anywhere by
chance. lm.data.overlap says what a word is.
"""

import dataclasses
import functools
import hashlib
import json

from lm.data import overlap, tables
from lm.data.clean import Rules
from lm.data.clean.rewrite import by_rules
from lm.errors import Mistake

KINDS = ("jsonl", "csv", "tsv", "squad")  # tables of a file


def digest(names: str) -> str:
  """Returns a sha256 of the texts of some sets, "a.jsonl,csv:b.csv".

  Raises Mistake for one that is no such file, and for one without a long enough text.
  """
  index.cache_clear()  # the files may be others by now
  data = json.dumps(list(_texts(names).values()))
  return hashlib.sha256(data.encode()).hexdigest()


@functools.lru_cache(maxsize=2)  # once in a process; it may be large
def index(rules: Rules) -> overlap.Index:
  """Returns the index of the sets in `decontaminate`, in the form of rewritten text."""
  rules = dataclasses.replace(rules, boilerplate=False, pii=False, quality="")
  texts = {
    name: [by_rules(text, rules)[0] for text in several]
    for name, several in _texts(rules.decontaminate).items()
  }
  return overlap.Index(texts)


def _texts(names: str) -> dict[str, list[str]]:
  """Returns {name: texts} of sets."""
  texts = {}
  for name in filter(None, map(str.strip, names.split(","))):
    table = name if ":" in name else f"jsonl:{name}"
    if table.partition(":")[0] not in KINDS:
      kinds = ", ".join(f"{kind}:PATH" for kind in KINDS)
      raise Mistake(f"no set of test items {name!r}; wanted PATH.jsonl, {kinds}")
    records = tables.read(table, cache=None).values()
    texts[name] = [text for split in records for text in _strings(list(split))]
    if not any(len(overlap.words(text)) >= overlap.LEAST for text in texts[name]):
      raise Mistake(f"no text of {name} has {overlap.LEAST} words, to search for")
  return texts


def _strings(value):
  """Yields all texts in a nested value of JSON."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict | list | tuple):
    for inner in value.values() if isinstance(value, dict) else value:
      yield from _strings(inner)
