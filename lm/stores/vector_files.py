"""Files of word vectors, as word2vec, GloVe, fastText, gensim and people write them.

text     a word and its numbers a line, separated by spaces or tabs; in front perhaps a
         line with the number of words and of numbers a word (GloVe writes none)
binary   that line, then each word, a space and its float32s, little endian; word2vec.c
         ends a vector with a line break, gensim does not

The content decides which of them a file is, and a file may be compressed.
"""

import collections
import itertools
import os
import re
from pathlib import Path

import numpy as np

from lm.disk import compressed, paths
from lm.errors import Mistake

WANTED = "wanted a file of word2vec, GloVe or fastText (.txt, .vec or .bin)"
FOREIGN = {  # by their first bytes
  b"\xba\x16\x4f\x2f": "is a model of fastText; give the .vec beside it",
  b"\x80": "is a pickle, which is not read; write it with save_word2vec_format",
  b"\x93NUMPY": "is an array without words; write it as text, a word a line",
  b"\x89HDF": "is an HDF5 file; write it as text, a word a line",
  b"\xff\xfe": "is UTF-16; convert it first (iconv -f UTF-16 -t utf-8)",
  b"\xfe\xff": "is UTF-16; convert it first (iconv -f UTF-16 -t utf-8)",
}
BOM = b"\xef\xbb\xbf"
CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))
NUMERIC = re.compile(rb"[-+.,]?\d[-+.,_eE\d]*")  # also 1,5
SAMPLE = 1 << 20
PACKED = 2000  # times that a compressed file can be smaller than its vectors


def check(path) -> Path:
  """Returns the path; Mistake when there is no file."""
  path = paths.local(path)
  if path.is_dir():
    raise Mistake(f"{path} is a folder; {WANTED}")
  if not path.is_file():
    raise Mistake(f"no vectors at {path}; give a file in word2vec's .bin or .txt")
  return path


def read(path) -> tuple[tuple, np.ndarray]:
  """Returns (words, table_VD) of a file, float32; see `lm.stores.vectors.read`."""
  path = check(path)
  with compressed.open(path) as file:
    sample = file.read(SAMPLE)
    file.seek(0)
    for start, problem in FOREIGN.items():
      if sample.startswith(start):
        raise Mistake(f"{path} {problem}")
    reader = _read_binary if _is_binary(sample, path) else _read_text
    raw_words, table_VD = reader(file, path)
  words = _decoded(raw_words, path)
  if not np.isfinite(table_VD).all():
    row = int(np.flatnonzero(~np.isfinite(table_VD).all(1))[0])
    raise Mistake(f"{path}: the vector of {words[row]!r} has {table_VD[row].min()}")
  rows = {word: row for row, word in reversed(list(enumerate(words)))}
  if len(rows) < len(words):
    kept = sorted(rows.values())
    words, table_VD = [words[row] for row in kept], table_VD[kept]
  return tuple(words), table_VD


def _is_binary(sample: bytes, path: Path) -> bool:
  first, _, rest = sample.partition(b"\n")
  sizes = _sizes(first)
  line = rest.lstrip().partition(b"\n")[0] if sizes else first
  width = sizes[1] if sizes else 1
  if 0 < width <= _num_numbers(line.split()):
    return False
  is_named_so = ".bin" in path.suffixes[-2:]  # v.bin.gz too
  return is_named_so or len(rest.translate(None, CONTROLS)) < len(rest)


def _decoded(raw_words: list, path) -> list:
  """The words as text.

  word2vec.c cuts long words, perhaps within a character, which becomes U+FFFD. Raises
  Mistake where that is the case for more than one word in a hundred.
  """
  words, wrong = [], []
  for raw in raw_words:
    words.append(raw.decode("utf-8", "replace"))
    if "\ufffd" in words[-1] and words[-1].encode() != raw:
      wrong.append(raw)
  if 100 * len(wrong) > len(words):
    raise Mistake(
      f"{path}: {len(wrong)} of {len(words)} words are not UTF-8, such as {wrong[0]!r};"
      " convert the file first (iconv -f latin1 -t utf-8)"
    )
  return words


def _read_binary(file, path) -> tuple[list, np.ndarray]:
  sizes = _sizes(file.readline(100))
  if sizes is None or not min(sizes):
    raise Mistake(f"{path} does not begin with a number of words and of dimensions")
  count, width = sizes
  most = os.path.getsize(path) * (PACKED if compressed.kind(path) else 1)
  if count * width * 4 > most:  # before room for it is taken
    raise Mistake(f"{path} tells of {count} words in {width}, and is shorter")
  table_VD, words = np.empty((count, width), np.float32), []
  data, start = b"", 0  # of the next word
  for row in range(count):
    while (end := data.find(b" ", start)) < 0 or len(data) - end - 1 < 4 * width:
      block = file.read(max(1 << 20, 8 * width))
      if not block:
        raise Mistake(f"{path} ends after {row} of {count} words")
      data, start = data[start:] + block, 0
    word = data[start:end].lstrip(b"\n")
    if word.split() != [word] or len(word.translate(None, CONTROLS)) < len(word):
      raise Mistake(
        f"{path}: word {row + 1} is {word[:20]!r}; in a binary file each has {width} "
        "numbers of 4 bytes as the first line says, and no space"
      )
    words.append(word)
    table_VD[row] = np.frombuffer(data, "<f4", width, end + 1)
    start = end + 1 + 4 * width
  if (data[start:] + file.read(SAMPLE)).strip(b"\r\n"):
    raise Mistake(f"{path} goes on after the {count} words of its first line")
  return words, table_VD


def _read_text(file, path) -> tuple[list, np.ndarray]:
  first = file.readline().removeprefix(BOM)
  sizes = _sizes(first)
  lines = enumerate(file, 2)
  if sizes is None:
    lines = itertools.chain([(1, first)], lines)
  lines = ((number, line.split()) for number, line in lines)
  lines = ((number, parts) for number, parts in lines if parts)
  sample = list(itertools.islice(lines, 100))
  width = sizes[1] if sizes else _usual_width(parts for _, parts in sample)
  words, rows = [], []
  for number, parts in itertools.chain(sample, lines):
    place = f"{path}:{number}"
    if len(parts) <= width or not width:
      raise Mistake(f"{place} is no word with {width} numbers")
    # Words in GloVe's largest files have spaces; a number is no part of one.
    if len(parts) > width + 1 and NUMERIC.fullmatch(parts[-width - 1]):
      before = parts[-width - 1].decode()
      raise Mistake(f"{place} has {before!r} before the {width} numbers of a word")
    words.append(b" ".join(parts[:-width]))
    rows.append(_numbers(parts[-width:], place))
  if not rows or (sizes and len(rows) != sizes[0]):
    wanted = sizes[0] if sizes else "some"
    raise Mistake(f"{path} has {len(rows)} vectors; wanted {wanted}")
  return words, np.stack(rows)


def _usual_width(lines) -> int:
  """The number of numbers that most lines end with; the largest of equally many."""
  counts = collections.Counter(map(_num_numbers, lines))
  return max(counts, key=lambda width: (counts[width], width), default=0)


def _num_numbers(parts: list) -> int:
  """The number of numbers that a line ends with, behind its word."""
  return sum(1 for _ in itertools.takewhile(_is_number, reversed(parts[1:])))


def _is_number(part: bytes) -> bool:
  try:
    float(part)
  except ValueError:
    return False
  return b"_" not in part


def _numbers(parts: list, place: str) -> np.ndarray:
  try:
    with np.errstate(over="ignore"):  # `read` looks for what is not finite
      return np.array(parts, np.float32)
  except ValueError:
    raise Mistake(f"{place} holds something that is no number") from None


def _sizes(line: bytes) -> tuple[int, int] | None:
  """(words, dimensions) of a first line, None when it is another one."""
  parts = line.removeprefix(BOM).split()
  if len(parts) != 2 or not all(part.isdigit() for part in parts):
    return None
  return int(parts[0]), int(parts[1])
