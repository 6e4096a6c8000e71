"""Word vectors at hand: neighbours, analogies, files in the formats of word2vec.

vectors = of_model(*lm.load("runs/word2vec"))
vectors.nearest("king", 5)
vectors.analogy("man", "king", "woman")  # as man is to king, so woman is to ...
vectors.write("vectors.bin")
"""

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lm.errors import Mistake

ROWS = 4096  # multiplied, written and read at a time


@dataclass(frozen=True)
class Vectors:
  """`words` and their vectors, `table_VD` in float32; words come in order of counts."""

  words: tuple
  table_VD: np.ndarray

  def __post_init__(self):
    if len(self.words) != len(self.table_VD):
      raise Mistake(f"{len(self.words)} words and {len(self.table_VD)} vectors")

  @functools.cached_property
  def index(self) -> dict:
    """{word: row}, the first row of a word that comes twice."""
    return {word: row for row, word in reversed(list(enumerate(self.words)))}

  @functools.cached_property
  def unit_VD(self) -> np.ndarray:
    """The vectors at length one; zeros stay zeros."""
    length_V1 = np.linalg.norm(self.table_VD, axis=1, keepdims=True)
    return (self.table_VD / np.where(length_V1 > 0, length_V1, 1)).astype(np.float32)

  def row(self, word: str) -> int:
    """Where a word is; Mistake when it is not there."""
    if word not in self.index:
      raise Mistake(f"no vector for {word!r} among {len(self.words)} words")
    return self.index[word]

  def __getitem__(self, word: str) -> np.ndarray:
    return self.table_VD[self.row(word)]

  def __contains__(self, word: str) -> bool:
    return word in self.index

  def nearest(self, word, k: int = 10) -> list:
    """The k words with the greatest cosine to a word, or to a vector: [(word, cosine)].

    A word is not its own neighbour.
    """
    if isinstance(word, str):
      return self._nearest(self.unit_VD[self.row(word)], k, but=(word,))
    return self._nearest(np.asarray(word, np.float32), k)

  def analogy(self, a: str, b: str, c: str, k: int = 1) -> list:
    """What is to c as b is to a: the k words nearest to b - a + c, but for these three.

    3CosAdd over vectors of length one (arXiv:1301.3781), [(word, cosine)].
    """
    a_D, b_D, c_D = (self.unit_VD[self.row(word)] for word in (a, b, c))
    return self._nearest(b_D - a_D + c_D, k, but=(a, b, c))

  def _nearest(self, x_D, k, but=()) -> list:
    cosine_V = self.unit_VD @ (x_D / (np.linalg.norm(x_D) or 1))
    cosine_V[[self.index[word] for word in but]] = -np.inf
    k = min(k, len(self.words) - len(set(but)))
    best = np.argpartition(-cosine_V, max(0, k - 1))[:k]
    best = best[np.argsort(-cosine_V[best], kind="stable")]
    return [(self.words[row], float(cosine_V[row])) for row in best]

  def similarity(self, one: str, other: str) -> float:
    """The cosine of two words."""
    return float(self.unit_VD[self.row(one)] @ self.unit_VD[self.row(other)])

  def write(self, path):
    """Writes the vectors in word2vec's binary format (.bin) or its text (any other).

    Raises Mistake for a word that the formats cannot hold: an empty one, or one with
    white space.
    """
    for word in self.words:
      if not word or word.split() != [word]:
        raise Mistake(f"{word!r} is no word: a file of vectors ends words at spaces")
    path = Path(path)
    with _new(path) as file:
      file.write(f"{len(self.words)} {self.table_VD.shape[1]}\n".encode())
      for word, x_D in zip(self.words, self.table_VD, strict=True):
        if path.suffix == ".bin":
          data = np.asarray(x_D, "<f4").tobytes()
        else:  # the shortest digits that read back as the same float32
          data = " ".join(map(str, np.asarray(x_D, np.float32))).encode()
        file.write(word.encode() + b" " + data + b"\n")


def of_model(model, params, tokenizer) -> Vectors:
  """The vectors of a model's words, or of the tokens of any other model.

  `model.word_vectors` says what the vector of a word is. Special tokens are left out.
  """
  table_VD = np.asarray(model.word_vectors(params), np.float32)
  texts = texts_of(tokenizer)
  rows = [row for row, text in enumerate(texts) if text.split() == [text]]
  return Vectors(tuple(texts[row] for row in rows), table_VD[rows])


def texts_of(tokenizer) -> list:
  """The text of each id, without the space that a token may begin with; "": special."""
  return [tokenizer.decode([i]).removeprefix(" ") for i in range(tokenizer.size)]


def read(path) -> Vectors:
  """The vectors in a file of word2vec's binary format (.bin) or its text (any other).

  Text may lack the first line with the sizes, as GloVe's does. Nothing in a file is
  run. Raises Mistake when it is neither, or cut off.
  """
  path = check(path)
  with open(path, "rb") as file:
    return _read_binary(file, path) if path.suffix == ".bin" else _read_text(file, path)


def check(path) -> Path:
  """The path; Mistake when there is no file."""
  path = Path(path)
  if not path.is_file():
    raise Mistake(f"no vectors at {path}; give a file in word2vec's .bin or .txt")
  return path


def _read_binary(file, path) -> Vectors:
  head = _sizes(file.readline(100).split())
  if head is None:
    raise Mistake(f"{path} does not begin with a number of words and of dimensions")
  count, width = head
  if count * width * 4 > os.path.getsize(path):  # before room for it is taken
    raise Mistake(f"{path} tells of {count} words in {width}, and is shorter")
  table_VD, words = np.empty((count, width), np.float32), []
  data, at = b"", 0
  for row in range(count):
    while (end := data.find(b" ", at)) < 0 or len(data) - end - 1 < 4 * width:
      more = file.read(max(1 << 20, 8 * width))
      if not more:
        raise Mistake(f"{path} ends after {row} of {count} words")
      data, at = data[at:] + more, 0
    words.append(data[at:end].lstrip(b"\n").decode("utf-8", "replace"))
    table_VD[row] = np.frombuffer(data, "<f4", width, end + 1)
    at = end + 1 + 4 * width
  return Vectors(tuple(words), table_VD)


def _read_text(file, path) -> Vectors:
  first = file.readline().split()
  head = _sizes(first)
  words, rows = [], []
  for number, line in enumerate([] if head else [b" ".join(first)], 1):
    _add(line, words, rows, None, f"{path}:{number}")
  for number, line in enumerate(file, 2):
    if line.strip():
      _add(line, words, rows, head[1] if head else len(rows[0]), f"{path}:{number}")
  if not rows or (head and len(rows) != head[0]):
    wanted = head[0] if head else "some"
    raise Mistake(f"{path} has {len(rows)} vectors; wanted {wanted}")
  return Vectors(tuple(words), np.stack(rows))


def _add(line: bytes, words: list, rows: list, width, where: str):
  """Splits a line from its end: GloVe's largest files have words with spaces."""
  parts = line.rstrip().split(b" ")
  width = width or len(parts) - 1
  word, numbers = b" ".join(parts[:-width]), parts[-width:]
  if not word or len(numbers) < width or not width:
    raise Mistake(f"{where} is no word with {width} numbers")
  words.append(word.decode("utf-8", "replace"))
  rows.append(_numbers(numbers, where))


def _numbers(parts, where):
  try:
    return np.array(parts, np.float32)
  except ValueError:
    raise Mistake(f"{where} holds something that is no number") from None


def _sizes(parts):
  """(words, dimensions) of a first line, None when it is another one."""
  return (
    tuple(map(int, parts))
    if len(parts) == 2 and all(part.isdigit() for part in parts)
    else None
  )


@contextlib.contextmanager
def _new(path: Path):
  """A file that takes its name when it is whole."""
  new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(new, "wb") as file:
      yield file
    os.replace(new, path)
  finally:
    new.unlink(missing_ok=True)
