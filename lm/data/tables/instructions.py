"""Conversations made by templates from the other tables of real texts.

Of each kind as many: a translation of a description of Debian's into French; a line for
a long description, and that line in French where there is one; the sentiment of a
sentence about a film; a few words on an article of Wikipedia. The questions are ours,
the answers those of the tables, whose licences hold.
"""

from lm.data import tables
from lm.data.sources._records import hash64
from lm.errors import Mistake

ARGUMENT = "the number of conversations of each kind, such as 1000"
LONGEST = 1_000  # characters of a text in a question


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "messages", "kind" and "group".

  Which texts are taken is drawn by hash. A group is a source package, a sentence or an
  article: all conversations about it are in one split.
  """
  if not argument.isdecimal() or not int(argument):
    raise Mistake(f"no table instructions:{argument}; wanted {ARGUMENT}")
  records = []
  for kind, made in KINDS.items():
    turns = sorted(made(cache), key=lambda item: hash64(repr(item).encode()))
    records += [
      {"messages": _messages(texts), "kind": kind, "group": group}
      for group, *texts in turns[: int(argument)]
    ]
  return {"train": records}


def _messages(texts) -> list[dict]:
  roles = ("user", "assistant") * (len(texts) // 2)
  return [dict(role=r, content=text) for r, text in zip(roles, texts, strict=True)]


def _rows(table: str, cache) -> list[dict]:
  return tables.read(table, cache=cache)["train"]


def _translation(cache):
  for row in _rows("debian:en-fr/synopsis", cache):
    yield _package(row), f"Translate into French: {row['source']}", row["target"]


def _summary(cache):
  french = {row["source"]: row for row in _rows("debian:en-fr/synopsis", cache)}
  for row in _rows("debian:en", cache):
    if 0 < len(row["text"]) <= LONGEST:
      question = f"Describe this package in one line.\n\n{row['text']}"
      turns = _package(row), question, row["summary"]
      other = french.get(row["summary"])
      if other and other["group"] == row["group"]:
        turns += ("And in French?", other["target"])
      yield turns


def _sentiment(cache):
  for row in _rows("vader:movies", cache):
    if row["label"]:
      question = f"Is this sentence about a film positive or negative? {row['text']}"
      yield f"film/{row['id']}", question, row["label"]


def _description(cache):
  for row in _rows("wikipedia:en", cache):
    if row["description"] and len(row["text"]) <= LONGEST:
      question = f"What is this article about, in a few words?\n\n{row['text']}"
      yield f"wikipedia/{row['title']}", question, row["description"]


def _package(row: dict) -> str:
  return f"debian/{row['group']}"


KINDS = {
  "translation": _translation,
  "summary": _summary,
  "sentiment": _sentiment,
  "description": _description,
}
