"""Plain text: one file, or a folder of .txt files; they may be compressed."""

import functools
import hashlib
import itertools
import json
import pathlib
import re

from lm.data.sources import _files, _records
from lm.disk import atomic, compressed, paths
from lm.errors import Mistake

VERSION = 2
ARGUMENT = "a .txt file, or a folder of them"
SUFFIXES = tuple(f".txt{suffix}" for suffix in compressed.SUFFIXES)
CHUNK_CHARS = 2**18  # at most, in a big file
CHUNKS = 20  # at least, in a small one; five times as many where it has the lines
# What a chunk may end with: a paragraph, a line, a word, or else any character.
ENDS = (r"\n\s*\n", r"\n", r"\s", r"(?s:.)")


def documents(path: str, *, cache) -> dict:
  """Splits a folder, or one file, into training and held-out documents.

  In a folder every file is a document; about 5% are held out, by hash of their names.
  `_files.below` says which files are left out; "left_out" names them by reason.

  Of one file, form feeds separate the documents. Without form feeds they are 100 or
  more contiguous chunks of whole paragraphs, or of lines if there are too few; 20 to
  100 in a text of few lines; of words or characters if it has hardly any line. Every
  twentieth is held out, so that 5% are in several places.
  """
  root, files, left_out = _files_of(path)
  if len(files) > 1:
    names = [file.relative_to(root).as_posix() for file in files]
    hashes = [_records.hash_of_name(name) for name in names]
    held = _records.held_by_hash(hashes, str(root))
    splits = _records.split(names, held, functools.partial(_read, str(root)))
    return splits | {"left_out": left_out}
  pieces = _pieces(_text(files[0]))
  if len(pieces) < 2:
    raise Mistake(
      f"{files[0]} cannot be divided into training and held-out text: wanted two words"
      f" or more, got {len(pieces)}"
    )
  name = _records.shown(files[0].name)
  records = [{"id": f"{name}#{i}", "text": piece} for i, piece in enumerate(pieces)]
  held = _records.held_by_place(len(records))
  return _records.split(records, held, _records.same) | {"left_out": left_out}


def content(path: str, *, cache) -> str:
  """A hash of the names and bytes of all files."""
  root, files, _ = _files_of(path)
  digests = [
    (_records.shown(file.relative_to(root).as_posix()), atomic.sha256_of_file(file))
    for file in files
  ]
  return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _files_of(path: str) -> tuple:
  """(folder, its files, {reason: files left out}); Mistake if there are no files."""
  root = paths.local(path)
  if root.is_dir():
    files, left_out = _files.below(root, SUFFIXES)
    _files.check_some(files, left_out, str(root))
    return root, files, left_out
  if not root.is_file():
    raise Mistake(f"no file or folder {path}; wanted text:PATH of a .txt or a folder")
  if not root.stat().st_size:
    raise Mistake(f"{path} is empty; wanted some text")
  return root.parent, [root], {}


def _pieces(text: str) -> list:
  """The text split at form feeds or into nearly equal chunks, without blank ones."""
  pieces = text.split("\f") if "\f" in text else _chunks(text)
  return [piece for piece in pieces if piece.strip()]


def _chunks(text: str) -> list:
  """The text in chunks that end at the first of ENDS that it has enough of."""
  least = max(CHUNKS, -(-len(text) // CHUNK_CHARS))
  most = max(least, 5 * CHUNKS)
  for level in range(len(ENDS)):
    ends = itertools.islice(_ends(text, len(text) / most, level), most)
    num_ends = sum(1 for _ in ends)
    if num_ends >= least:
      break
  parts = min(num_ends + 1, most)  # the last one needs no end
  num = max(least, parts // CHUNKS * CHUNKS)
  return list(_cut(text, len(text) / num, level))


def _cut(text: str, size: float, level: int):
  """Yields the text in chunks of about `size` characters that end at ENDS[level].

  A chunk of more than twice that, which has hardly any such end, is cut at the next.
  """
  cuts = [0]
  for end in _ends(text, size, level):
    if end >= len(cuts) * size:
      cuts.append(end)
  for start, end in itertools.pairwise([*cuts, len(text)]):
    if end - start > 2 * size and level + 1 < len(ENDS):
      yield from _cut(text[start:end], size, level + 1)
    else:
      yield text[start:end]


def _ends(text: str, size: float, level: int):
  """Yields the places where ENDS[level] ends; of words and characters only some."""
  pattern, place = re.compile(ENDS[level]), 0
  skipped = int(size / 16) if level > 1 else 0
  while match := pattern.search(text, place):
    yield match.end()
    place = match.end() + skipped


def _read(root: str, name: str) -> dict:
  return {"id": _records.shown(name), "text": _text(pathlib.Path(root, name))}


def _text(file: pathlib.Path) -> str:
  with compressed.open(file) as data:
    return _records.decode(data.read(), str(file))
