"""The Bible, verse by verse: King James's of 1769 and Reina and Valera's of 1909.

Both are in the public domain, and divided alike; Debian has them as the packages
sword-text-kjv and sword-text-sparv, which apt-get fetches when the table is first read.
"""

import json
import re
import struct
import zlib
from pathlib import Path

from lm.data.tables import _apt, jsonl
from lm.disk import atomic, locks
from lm.errors import Mistake

ARGUMENT = "en-es, or es-en"
VERSION = 1  # raise it when other records are made of the packages
MODULES = {"en": ("sword-text-kjv", "engKJV*"), "es": ("sword-text-sparv", "spaRV*")}
# What is no part of a verse, and marks in the text of one.
_ASIDE = re.compile(r"<(title|note)\b.*?</\1>", re.S)
_MARK = re.compile(r"<[^>]*>")


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "source", "target", "place" and "group".

  A place is "ot:1:3", the third slot of the first book of a testament; a book is a
  group. Raises Mistake as `lm.data.tables.debian`.
  """
  if argument not in ("en-es", "es-en"):
    raise Mistake(f"no table bible:{argument}; wanted {ARGUMENT}")
  file = Path(cache) / "bible" / f"{argument}-{VERSION}.jsonl"
  if not file.exists():
    with locks.locked(file.with_suffix(".lock"), log=print):
      if not file.exists():
        lines = (json.dumps(r, ensure_ascii=False) for r in _fetched(argument))
        atomic.write(file, "".join(f"{line}\n" for line in lines))
  return jsonl.read(str(file), cache=cache)


def _fetched(argument: str):
  modules = [MODULES[language] for language in argument.split("-")]
  with _apt.unpacked([package for package, _ in modules]) as folder:
    sides = [verses(next(folder.rglob(pattern))) for _, pattern in modules]
  for place in sides[0]:
    source, target = (side.get(place, "") for side in sides)
    if source and target:
      book = place.rpartition(":")[0]
      yield dict(source=source, target=target, place=place, group=book)


def verses(folder: Path) -> dict[str, str]:
  """Returns {place: text} of a module of SWORD's format zText, a block a book.

  A line of .bzv is (block, start, length) of a verse; of .bzs (start, length, length
  before it was compressed) of a block in .bzz. All numbers are little-endian.
  """
  texts = {}
  for testament in ("ot", "nt"):
    index, blocks, data = (
      (folder / f"{testament}.{ending}").read_bytes()
      for ending in ("bzv", "bzs", "bzz")
    )
    books = [
      zlib.decompress(data[start : start + size])
      for start, size, _ in struct.iter_unpack("<III", blocks)
    ]
    counts = dict.fromkeys(range(len(books)), 0)
    for book, start, size in struct.iter_unpack("<IIH", index):
      text = books[book][start : start + size].decode()
      counts[book] += 1
      plain = " ".join(_MARK.sub("", _ASIDE.sub("", text)).split())
      texts[f"{testament}:{book}:{counts[book]}"] = plain
  return texts
