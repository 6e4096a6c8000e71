"""Plain text: one .txt file, or a folder of them."""

import functools
import hashlib
import itertools
import json
import pathlib
import re

from lm.data.sources import _records
from lm.disk import atomic
from lm.errors import Mistake

VERSION = 1
ARGUMENT = "a .txt file, or a folder of them"
CHUNK_CHARS = 2**18  # at most, in a big file: 5% held out are then in many places
CHUNKS = 20  # at least, in a small one


def documents(path: str, *, cache) -> dict:
  """Splits a folder, or one file, into training and held-out documents.

  In a folder every file is a document; about 5% are held out, by hash of their names.
  Of one file, form feeds separate the documents; without form feeds they are 20 or
  more contiguous chunks of whole paragraphs (of lines, if paragraphs are too few).
  Every twentieth is held out, the first one from the middle of the file.
  """
  root, paths = _files(path)
  if len(paths) > 1:
    names = [file.relative_to(root).as_posix() for file in paths]
    hashes = [_records.hash64(name.encode()) for name in names]
    held = _records.held_by_hash(hashes, str(root))
    return _records.split(names, held, functools.partial(_read, str(root)))
  text = _records.decode(paths[0].read_bytes(), str(paths[0]))
  pieces = _pieces(text)
  if len(pieces) < 2:
    raise Mistake(
      f"{paths[0]} cannot be divided into training and held-out text: wanted two lines"
      f" or more, got {len(pieces)}"
    )
  records = [
    {"id": f"{paths[0].name}#{index}", "text": piece}
    for index, piece in enumerate(pieces)
  ]
  return _records.split(records, _records.held_by_place(len(records)), _same)


def content(path: str, *, cache) -> str:
  """A hash of the names and bytes of all files."""
  root, paths = _files(path)
  digests = [
    (file.relative_to(root).as_posix(), atomic.sha256_of_file(file)) for file in paths
  ]
  return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _files(path: str) -> tuple:
  """(folder, paths of its files that are not empty); Mistake if there are none."""
  root = pathlib.Path(path).expanduser()
  if root.is_file():
    root, paths = root.parent, [root]
  elif root.is_dir():
    paths = sorted(file for file in root.rglob("*.txt") if file.is_file())
    if not paths:
      raise Mistake(f"no .txt file in {root}")
  else:
    raise Mistake(f"no file or folder {path}; wanted text:PATH of a .txt or a folder")
  paths = [file for file in paths if file.stat().st_size]
  if not paths:
    raise Mistake(f"{path} is empty; wanted some text")
  return root, paths


def _pieces(text: str) -> list:
  """The text split at form feeds or into nearly equal chunks, without blank ones."""
  if "\f" in text:
    return [piece for piece in text.split("\f") if piece.strip()]
  num = max(CHUNKS, -(-len(text) // CHUNK_CHARS))
  ends = [match.end() for match in re.finditer(r"\n\s*\n", text)]
  if len(ends) < num:
    ends = [match.end() for match in re.finditer(r"\n", text)]
  cuts, mean_size = [0], len(text) / num
  for end in ends:
    if end >= len(cuts) * mean_size:
      cuts.append(end)
  cuts.append(len(text))
  pieces = [text[a:b] for a, b in itertools.pairwise(cuts)]
  return [piece for piece in pieces if piece.strip()]


def _read(root: str, name: str) -> dict:
  path = pathlib.Path(root, name)
  return {"id": name, "text": _records.decode(path.read_bytes(), str(path))}


def _same(record: dict) -> dict:
  return record
