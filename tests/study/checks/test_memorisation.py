"""Memorisation: windows of a corpus, and what greedy decoding continues of them."""

import itertools

import numpy as np
import pytest

import lm
from lm.data import Data, prepare
from lm.generate import stream
from lm.optim import Optim
from lm.study import checks
from lm.study.checks import memorisation
from lm.study.items import Items
from lm.train.config import Experiment

NONE = Items("", [])


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
  folder = tmp_path_factory.mktemp("texts")
  for i in range(60):
    (folder / f"{i:02}.txt").write_text(f"{i:02}" + "abcdefgh" * (1 + i % 7) * 3)
  data = Data(source=f"text:{folder}", cache=str(folder / "cache"))
  return prepare(data, seq=8, log=lambda line: None)


@pytest.mark.parametrize("size", [8, 20, 50, 150])
def test_windows_are_parts_of_documents_evenly_spread(corpora, size, monkeypatch):
  [corpus] = corpora.corpora
  tokens, offsets = corpus.tokens("train"), corpus.offsets("train")
  whole = [
    bytes(np.asarray(tokens[first + i : first + i + size], np.uint8))
    for first, end in itertools.pairwise(offsets)
    for i in range(0, int(end - first) - size, size)
  ]

  def windows(most):
    monkeypatch.setattr(memorisation, "WINDOWS", most)
    parts = memorisation.windows_of(corpora, "train", size)
    return [bytes(ids.astype(np.uint8)) for ids in parts]

  assert windows(1_000) == whole and all(len(window) == size for window in whole)
  total = len(whole)
  chosen = [i * total // 10 for i in range(10)] if total > 10 else range(total)
  assert windows(10) == [whole[i] for i in chosen]


def test_documents_that_are_too_short(corpora):
  message = "no document of split 'train' has 501 tokens to continue"
  with pytest.raises(ValueError, match=message):
    memorisation.windows_of(corpora, "train", 500)
  assert memorisation.window_size(corpora, 0) == 98  # half of them are as long
  assert memorisation.window_size(corpora, 16) == 16


def test_what_is_continued_word_for_word_is_what_greedy_decoding_gives(tmp_path):
  """Every second document repeats letters, which is soon learnt; others are random."""
  folder, draw = tmp_path / "texts", np.random.default_rng(0)
  folder.mkdir()
  for i in range(60):
    letters = "abcdefgh" * 3 if i % 2 else "".join(draw.choice(list("ijklm"), 24))
    (folder / f"{i:02}.txt").write_text(f"{i:02}{letters}")
  data = Data(source=f"text:{folder}", cache=str(tmp_path / "cache"))
  corpora = prepare(data, seq=24, log=lambda line: None)
  tokenizer = corpora.tokenizer
  sizes = dict(vocab=tokenizer.size, width=32, layers=1, heads=2, kv_heads=2, ff=32)
  model = lm.model("decoder", preset="llama-tiny", **sizes)
  rows = corpora.rows("train", 24)
  params, _ = lm.fit(
    model, None, rows, num_steps=60, optimiser=Optim(lr=2e-2, warmup=5)
  )
  settings = dict(num_steps=1, batch=4, seq=24, model={"family": "decoder"}, data=data)
  subject = checks.Subject(model, params, tokenizer, Experiment(**settings), NONE)
  rows = {(row.case, row.metric): row for row in memorisation.check(subject)}
  size = memorisation.window_size(corpora, 0)
  count = size // 2
  for split, case in memorisation.CASES.items():
    windows = memorisation.windows_of(corpora, split, size)
    prompts, texts = [ids[:-count] for ids in windows], [[] for _ in windows]
    options = dict(max_tokens=count, temperature=0.0)
    for piece in stream.stream(model, params, tokenizer, prompts, **options):
      texts[piece.index] += piece.ids.tolist()
    hits = [x[-count:].tolist() == t for x, t in zip(windows, texts, strict=True)]
    row = rows[case, f"{count} tokens word for word"]
    assert (row.value, row.count) == (np.mean(hits), len(windows))
    assert split == "heldout" or 0.3 < row.value < 0.7
    assert rows[case, "nats"].value > 0
