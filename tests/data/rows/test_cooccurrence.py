"""Co-occurrence counts: equal to a naive count, with any amount of memory."""

import collections
import dataclasses

import numpy as np
import processes
import pytest

from lm.data import Data, prepare
from lm.data.rows import cooccurrence
from lm.data.tokenizers import word_level


def naive(tokens, window, skip, end):
  """Returns the counts of pairs in both orders, weighted by 1/distance (GloVe)."""
  counts, document, words = collections.Counter(), 0, []
  for token in tokens:
    document += token == end
    if token not in skip:
      words.append((token, document))
  for i, (first, first_document) in enumerate(words):
    for j in range(max(0, i - window), i):
      second, second_document = words[j]
      if first_document == second_document:
        counts[first, second] += 1 / (i - j)
        counts[second, first] += 1 / (i - j)
  return counts


@pytest.mark.parametrize(("limit", "chunk"), [(1 << 24, 1 << 18), (400, 64), (2000, 7)])
def test_pairs_are_counted_whatever_memory_there_is(
  limit, chunk, tmp_path, monkeypatch
):
  monkeypatch.setattr(cooccurrence, "LIMIT", limit)
  monkeypatch.setattr(cooccurrence, "CHUNK", chunk)
  size, window, skip, end = 40, 7, (0, 1), 0
  draw = np.random.default_rng(0)
  tokens = draw.integers(0, size, 2000)
  tokens[draw.integers(0, 2000, 300)] = 1  # unknown words: the others move together

  def counted(name):
    path = tmp_path / name
    cooccurrence.count(path, tokens, size, skip=skip, end=end, window=window)
    return cooccurrence.open_cells(path)

  cells = counted("cells")
  actual = collections.Counter()
  for first, second, count in cells.tolist():
    actual[first, second] = actual[second, first] = count
  expected = naive(tokens.tolist(), window, skip, end)
  assert actual == pytest.approx(expected, rel=1e-6)
  # The same bytes each time, in an order that does not follow the words.
  recounted = counted("again")
  assert recounted.tobytes() == cells.tobytes()
  assert not np.all(np.diff(cells["first"].astype(int)) >= 0)
  parts = cooccurrence.split_cells(cells, size)
  joined = np.concatenate([parts["heldout"], parts["train"]])
  assert joined.tobytes() == cells.tobytes()
  assert 0 < len(parts["heldout"]) < len(cells) / 20


def test_scrambling_is_one_to_one():
  for bits in (2, 5, 12, 13):
    keys = np.arange(1 << bits, dtype=np.uint64)
    mixed = cooccurrence.scrambled(keys, bits)
    assert sorted(mixed.tolist()) == keys.tolist()
    assert cooccurrence.restored(mixed, bits).tolist() == keys.tolist()
  large = np.array([0, 1, (1 << 58) - 1], np.uint64)
  mixed = cooccurrence.scrambled(large, 58)
  assert cooccurrence.restored(mixed, 58).tolist() == large.tolist()


def test_rows_hold_every_pair_from_either_side(tmp_path):
  text = processes.corpus(tmp_path)
  data = Data(
    source=f"text:{text}",
    tokenizer="words-9",
    rows="cooccurrence-2",
    cache=str(tmp_path),
  )
  dataset = prepare(data, seq=4, log=lambda line: None)
  met = collections.Counter()
  for split in ("train", "heldout"):
    rows = dataset.rows(split, 4)
    for row in (rows[i] for i in range(len(rows))):
      for first, second, count in zip(*row.values(), strict=True):
        met[int(first), int(second)] += float(count)
  del met[1, 1]  # padding
  tokens = dataset.corpora[0].tokens("train")[:].tolist()
  skip = word_level.no_words(dataset.tokenizer)
  expected = naive(tokens, 2, skip, dataset.tokenizer.eos)
  for first, second in expected:
    if first == second:  # counted from either side
      expected[first, second] *= 2
  assert met == pytest.approx(expected, rel=1e-6)
  for name in ("cooccurrence-99", "cooccurrence-0", "cooccurrence"):
    with pytest.raises(ValueError, match="wanted cooccurrence-N with N from 1 to 20"):
      dataclasses.replace(data, rows=name)


def test_a_text_without_words_is_refused(tmp_path):
  (tmp_path / "numbers.txt").write_text("\n\n".join(map(str, range(99))))
  source, cache = f"text:{tmp_path / 'numbers.txt'}", str(tmp_path)
  data = Data(source=source, tokenizer="words-9", rows="cooccurrence-2", cache=cache)
  with pytest.raises(ValueError, match=r"no two words of .* are within 2 positions"):
    prepare(data, seq=4, log=lambda line: None)
