"""Word vectors: neighbours, analogies, and files in the formats of word2vec.

vectors = of_model(*lm.load("runs/word2vec"))
vectors.nearest("king", 5)
vectors.analogy("man", "king", "woman")  # as man is to king, so woman is to ...
vectors.write("vectors.bin")
"""

import functools
from dataclasses import dataclass

import numpy as np

from lm.disk import atomic, paths
from lm.errors import Mistake
from lm.stores import vector_files


@dataclass(frozen=True)
class Vectors:
  """`words`, in order of their counts, and a float32 row of `table_VD` for each."""

  words: tuple
  table_VD: np.ndarray

  def __post_init__(self):
    if len(self.words) != len(self.table_VD):
      raise Mistake(f"{len(self.words)} words and {len(self.table_VD)} vectors")

  @functools.cached_property
  def index(self) -> dict:
    """{word: row}; the first row of a word that occurs twice."""
    return {word: row for row, word in reversed(list(enumerate(self.words)))}

  @functools.cached_property
  def unit_VD(self) -> np.ndarray:
    """The vectors scaled to length one; zeros stay zeros."""
    length_V1 = np.linalg.norm(self.table_VD, axis=1, keepdims=True)
    return (self.table_VD / np.where(length_V1 > 0, length_V1, 1)).astype(np.float32)

  def row(self, word: str) -> int:
    """Returns the row of a word; Mistake when there is none."""
    if word not in self.index:
      raise Mistake(f"no vector for {word!r} among {len(self.words)} words")
    return self.index[word]

  def __getitem__(self, word: str) -> np.ndarray:
    return self.table_VD[self.row(word)]

  def __contains__(self, word: str) -> bool:
    return word in self.index

  def nearest(self, word, k: int = 10) -> list:
    """Returns [(word, cosine)] of the k nearest words to a word or a vector.

    A word is not its own neighbour.
    """
    if isinstance(word, str):
      return self._nearest(self.unit_VD[self.row(word)], k, excluded=(word,))
    return self._nearest(np.asarray(word, np.float32), k)

  def analogy(self, a: str, b: str, c: str, k: int = 1) -> list:
    """Returns [(word, cosine)] of the k words that are to c as b is to a.

    3CosAdd over vectors of length one (arXiv:1301.3781): nearest to b - a + c, without
    a, b and c.
    """
    a_D, b_D, c_D = (self.unit_VD[self.row(word)] for word in (a, b, c))
    return self._nearest(b_D - a_D + c_D, k, excluded=(a, b, c))

  def _nearest(self, x_D, k, excluded=()) -> list:
    cosine_V = self.unit_VD @ (x_D / (np.linalg.norm(x_D) or 1))
    cosine_V[[self.index[word] for word in excluded]] = -np.inf
    k = min(k, len(self.words) - len(set(excluded)))
    best = np.argpartition(-cosine_V, max(0, k - 1))[:k]
    best = best[np.argsort(-cosine_V[best], kind="stable")]
    return [(self.words[row], float(cosine_V[row])) for row in best]

  def similarity(self, a: str, b: str) -> float:
    """Returns the cosine of two words."""
    return float(self.unit_VD[self.row(a)] @ self.unit_VD[self.row(b)])

  def write(self, path):
    """Writes word2vec's binary format (.bin) or its text format (any other suffix).

    Raises Mistake for a word that the formats cannot hold: empty, or with white space.
    """
    for word in self.words:
      if not word or word.split() != [word]:
        raise Mistake(f"{word!r} is no word: a file of vectors ends words at spaces")
    path = paths.local(path)
    with atomic.open(path) as file:
      file.write(f"{len(self.words)} {self.table_VD.shape[1]}\n".encode())
      for word, x_D in zip(self.words, self.table_VD, strict=True):
        if path.suffix == ".bin":
          data = np.asarray(x_D, "<f4").tobytes()
        else:  # the shortest digits that read back as the same float32
          data = " ".join(map(str, np.asarray(x_D, np.float32))).encode()
        file.write(word.encode() + b" " + data + b"\n")


def of_model(model, params, tokenizer) -> Vectors:
  """Returns the vectors of a model's tokens, without special ones.

  The vector of a word is that of `model.word_vectors`. Special tokens are left out.
  """
  table_VD = np.asarray(model.word_vectors(params), np.float32)
  texts = texts_of(tokenizer)
  rows = [row for row, text in enumerate(texts) if text.split() == [text]]
  return Vectors(tuple(texts[row] for row in rows), table_VD[rows])


def texts_of(tokenizer) -> list:
  """Returns the text of each id without its leading space; "" for special tokens."""
  return [tokenizer.decode([i]).removeprefix(" ") for i in range(tokenizer.size)]


def read(path) -> Vectors:
  """Reads the vectors of word2vec, GloVe, fastText or gensim, text or binary.

  Text may lack the first line with the sizes, as GloVe's does, and a file may be
  compressed. Of a word that occurs twice the first vector counts, as in gensim. Raises
  Mistake, with the line or the word, for a file that is neither, cut off, not UTF-8,
  with other sizes than it tells, or with numbers that are not finite.
  """
  return Vectors(*vector_files.read(path))


def into_table(path, table_VD, tokenizer):
  """Returns (table_VD with vectors of a file in it, number of tokens that got one).

  A token gets the vector of the word that it is, with or without a space in front; all
  others keep their row. The table keeps its sharding. Raises Mistake when the width is
  another one, or when the file has a vector for no token.
  """
  import jax

  vectors = read(path)
  if vectors.table_VD.shape[1] != table_VD.shape[1]:
    width = vectors.table_VD.shape[1]
    raise Mistake(
      f"{path} has vectors of {width} numbers, and the model's width is "
      f"{table_VD.shape[1]}; make model.width {width}"
    )
  texts = texts_of(tokenizer)
  ids = [id for id, text in enumerate(texts) if text in vectors]
  if not ids:
    raise Mistake(f"{path} has a vector for no token; wanted one of the same words")
  rows = vectors.table_VD[[vectors.row(texts[id]) for id in ids]]

  def fill(table_VD):
    return table_VD.at[np.array(ids)].set(rows)

  return jax.jit(fill, out_shardings=table_VD.sharding)(table_VD), len(ids)
