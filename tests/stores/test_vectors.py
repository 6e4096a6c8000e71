"""Word vectors: neighbours, analogies, files, scores, and tables made from them."""

import json
import re

import jax.numpy as jnp
import numpy as np
import processes
import pytest

import lm
from lm.data import tokenizers
from lm.stores import vectors
from lm.stores.vectors import Vectors
from lm.tasks import similarity

WORDS = ("king", "queen", "man", "woman", "apple", "na\u00efve")
TABLE_VD = np.array(
  [[2, 2, 0.1], [2, -2, 0.1], [0.5, 2, 0], [0.5, -2, 0], [0, 0, 5], [-1, 0, 0]],
  np.float32,
)
SMALL = Vectors(WORDS, TABLE_VD)


def test_neighbours_and_analogies():
  [(word, cosine), *rest] = SMALL.nearest("king", 2)
  a, b = TABLE_VD[0], TABLE_VD[2]
  assert (word, len(rest)) == ("man", 1)
  assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
  assert SMALL.nearest(TABLE_VD[0] * 7, 1)[0][0] == "king"
  assert len(SMALL.nearest("king", 99)) == 5
  assert SMALL.analogy("man", "king", "woman")[0][0] == "queen"
  assert SMALL.similarity("man", "king") == pytest.approx(cosine)
  with pytest.raises(ValueError, match="no vector for 'King' among 6 words"):
    SMALL.nearest("King")


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_a_file_gives_back_every_bit(name, tmp_path):
  draw = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32)
  words = tuple(f"w\u00f6rd{i}" for i in range(300))
  Vectors(words, draw).write(tmp_path / name)
  restored = vectors.read(tmp_path / name)
  assert restored.words == words
  assert restored.table_VD.tobytes() == draw.tobytes()
  with pytest.raises(ValueError, match="'new york' is no word"):
    Vectors(("new york",), draw[:1]).write(tmp_path / name)
  assert vectors.read(tmp_path / name).words == words
  assert len(list(tmp_path.iterdir())) == 1


def test_scores_count_what_is_known():
  pairs = "# pairs\nking\tman\t9\nQueen\twoman\t8\nman\tapple\t1\nking\tzebra\t5\n"
  scores = similarity.relatedness(SMALL, pairs)
  assert scores["_known"] == 0.75 and scores[""] == pytest.approx(0.5 * 3**0.5)
  questions = (
    ": royals\nman king Woman queen\nman queen woman king\nman king cow zebra\n"
  )
  scores = similarity.analogies(SMALL, questions)
  assert scores == {"": 0.5, "_all": 1 / 3, "_known": 2 / 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns (folder, Run) of thirty steps of word2vec on a text of ten words."""
  folder = tmp_path_factory.mktemp("words")
  values = dict(data__tokenizer="words-13", num_steps=30, eval__every=30)
  flags = processes.flags(folder / "run", processes.corpus(folder), **values)
  flags[0] = "--config=tests/shrink.py:family/word2vec"
  result = processes.run("train", *flags)
  assert result.code == 0, result.err
  return folder / "run", result


def test_a_run_gives_vectors(run):
  folder, result = run
  model, params, tokenizer = lm.load(folder)
  word_vectors = vectors.of_model(model, params, tokenizer)
  assert (
    sorted(word_vectors.words)[:2] == ["a", "brown"] and len(word_vectors.words) == 10
  )
  row = tokenizer.encode("fox")[0]
  assert word_vectors["fox"].tolist() == params["embed"]["table"][row].tolist()
  evaluations = [
    row for row in processes.metrics(folder) if "eval/nats_per_pair" in row
  ]
  assert evaluations and re.search(r"held out [\d.]+ nats per pair", result.out)
  assert 0 < evaluations[-1]["eval/nats_per_pair"] < 6 * np.log(2)


def test_it_is_evaluated_and_writes_no_text(run):
  folder, _ = run
  result = processes.run("evaluate", f"--workdir={folder}")
  assert result.code == 0, result.err
  evaluation = [r for r in processes.metrics(folder) if "eval/nats_per_pair" in r][-1]
  nats_per_pair = json.loads(result.out[result.out.index("{") :])["eval/nats_per_pair"]
  assert nats_per_pair == pytest.approx(
    evaluation["eval/nats_per_pair"], rel=0.2
  )  # of all rows
  result = processes.run("generate", f"--workdir={folder}", "--prompt=the fox")
  assert result.code == 2 and "word2vec" in result.err and result.err.count("\n") == 1
  result = processes.run("evaluate", f"--workdir={folder}", "--tasks=taste")
  assert result.code == 2 and "no 'taste' in lm/tasks; " in result.err


@pytest.fixture
def file(tmp_path):
  SMALL.write(tmp_path / "v.bin")
  return tmp_path / "v.bin"


KINGS = tokenizers.make("bpe-290", ["the king saw the king and a queen " * 20])


def test_a_table_takes_vectors_of_its_words(file):
  texts = vectors.texts_of(KINGS)
  rows_VD = np.random.default_rng(0).standard_normal((384, 3)).astype(np.float32)
  table_VD, count = vectors.into_table(file, jnp.array(rows_VD), KINGS)
  ids = [id for id, text in enumerate(texts) if text in SMALL]
  assert {texts[id] for id in ids} >= {"king", "queen"} and count == len(ids)
  expected_VD = rows_VD.copy()
  expected_VD[ids] = [SMALL[texts[id]] for id in ids]
  assert table_VD.tolist() == expected_VD.tolist()
  with pytest.raises(ValueError, match="a vector for no token"):
    vectors.into_table(file, jnp.array(rows_VD), tokenizers.byte_tokenizer())
  with pytest.raises(ValueError, match="width is 4; make model"):
    vectors.into_table(file, jnp.zeros((384, 4)), KINGS)
