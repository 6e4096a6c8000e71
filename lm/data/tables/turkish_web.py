"""Turkish sentences of the web and of Wikipedia, with a part of speech for each word.

The Turkish Web Treebank of Google Research, annotated by people, as the package
turkish-treebanks carries it (Apache-2.0). A word of it may be several lines, one for
every derivation (hız, hızlı, hızlandır-); the part of speech is that of the last.
"""

from lm.data.sources import packages

INNER = "ig"  # the relation of a line to the next one of the same word


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "id", "words" and "tags"."""
  files = packages.texts("turkish-treebanks", cache=cache)
  return {
    "train": [
      _record(block)
      for text in files.values()
      for block in text.decode().split("\n\n")
      if block.strip()
    ]
  }


def _record(block: str) -> dict:
  record, word = {"id": "", "words": [], "tags": []}, ""
  for line in block.strip().splitlines():
    if line.startswith("# sent_id = "):
      record["id"] = line.removeprefix("# sent_id = ")
    if line.startswith("# "):
      continue
    _, form, _, kind, _, _, _, relation, *_ = line.split("\t")
    word += form
    if relation != INNER:
      record["words"].append(word)
      record["tags"].append(kind)
      word = ""
  return record
