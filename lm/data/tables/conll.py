"""A file with a word and its tag a line, and an empty line between sentences.

The format of CoNLL-2003 and its like: columns apart by white space, the word in the
first and the tag in the last. Lines of documents (-DOCSTART-) are left out.
"""

from lm.data.sources import _records
from lm.data.tables import jsonl
from lm.disk import compressed
from lm.errors import Mistake

ARGUMENT = "a file with a word and its tag a line, an empty line between sentences"
DOCUMENT = "-DOCSTART-"


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "words" and "tags"; the file may be compressed."""
  path = jsonl.file(argument, "conll")
  with compressed.open(path) as file:
    lines = _records.decode(file.read(), str(path)).splitlines()
  records, words, tags, width = [], [], [], 0
  for number, line in enumerate([*lines, ""], 1):
    columns = line.split()
    if not columns or columns[0] == DOCUMENT:
      if words:
        records.append({"words": words, "tags": tags})
      words, tags = [], []
      continue
    width = width or len(columns)
    if len(columns) != width or width < 2:
      raise Mistake(
        f"{path} line {number}: {len(columns)} columns; wanted {max(2, width)}, a word "
        "first and its tag last"
      )
    words.append(columns[0])
    tags.append(columns[-1])
  return {"train": records}
