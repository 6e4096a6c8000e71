"""Words as tokens, and how often they meet."""

import collections

import numpy as np
import processes
import pytest

from lm.data import tokenizers
from lm.data.corpus import build
from lm.data.rows import cooccurrence
from lm.data.tokenizers import word_level

TEXT = (
  "The king's crown\u2014don't touch it, King! 12 na\u00efve a_b <|unk|>\n\nthe The it"
)


def test_words_are_letters_in_small_and_come_by_their_counts():
  tokenizer = tokenizers.make("words-7", [TEXT])
  assert tokenizer.decode(range(tokenizer.size)).split()[:2] == ["the", "it"]
  ids = tokenizer.encode("It, the it: zebra, 99 <|endoftext|>")
  the, it, unk = 3, 4, tokenizer.unk
  # Marks and digits are no words; a special token in a text is a word like any other.
  assert ids.tolist() == [it, the, it, unk, unk]
  assert word_level.no_words(tokenizer) == [0, 1, 2]
  with pytest.raises(ValueError, match="words-3 holds 3 special tokens and no word"):
    tokenizers.make("words-3", [TEXT])


def test_it_is_saved_with_what_is_unknown(tmp_path):
  tokenizer = tokenizers.make("words-9", [TEXT])
  tokenizer.save(tmp_path)
  again = tokenizers.load(tmp_path)
  assert (again.unk, again.digest) == (tokenizer.unk, tokenizer.digest)
  assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
  assert again.bytes_V is None


def naive(tokens, window, skip, end):
  """The counts of pairs by the book, in both orders."""
  counts, document, words = collections.Counter(), 0, []
  for token in tokens:
    document += token == end
    if token not in skip:
      words.append((token, document))
  for i, (one, here) in enumerate(words):
    for j in range(max(0, i - window), i):
      other, there = words[j]
      if here == there:
        counts[one, other] += 1 / (i - j)
        counts[other, one] += 1 / (i - j)
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
  how = dict(size=size, skip=skip, end=end, window=window)
  found = cooccurrence.cells(tmp_path / "cells", tokens, **how)
  got = collections.Counter()
  for one, other, count in found.tolist():
    got[one, other] = got[other, one] = count
  wanted = naive(tokens.tolist(), window, skip, end)
  assert got == pytest.approx(wanted, rel=1e-6)
  # The same bytes each time, in no order that a word could be told from.
  again = cooccurrence.cells(tmp_path / "again", tokens, **how)
  assert again.tobytes() == found.tobytes()
  assert not np.all(np.diff(found["one"].astype(int)) >= 0)
  parts = cooccurrence.split(found, size)
  joined = np.concatenate([parts["heldout"], parts["train"]])
  assert joined.tobytes() == found.tobytes()
  assert 0 < len(parts["heldout"]) < len(found) / 20


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
  how = dict(source=f"text:{text}", tokenizer="words-9", clean={}, seq=4)
  prepared = build.prepare(
    **how, pack="cooccurrence-2", cache=tmp_path, log=lambda line: None
  )
  met = collections.Counter()
  for split in ("train", "heldout"):
    rows = prepared.rows(split)
    for row in (rows[i] for i in range(len(rows))):
      for one, other, count in zip(*row.values(), strict=True):
        met[int(one), int(other)] += float(count)
  del met[1, 1]  # padding
  tokens = prepared.tokens("train")[:].tolist()
  skip = word_level.no_words(prepared.tokenizer)
  wanted = naive(tokens, 2, skip, prepared.tokenizer.eos)
  for one, other in wanted:
    if one == other:  # seen from either side, and the same
      wanted[one, other] *= 2
  assert met == pytest.approx(wanted, rel=1e-6)
  with pytest.raises(ValueError, match="wanted a window of 1 to 20"):
    build.prepare(**how, pack="cooccurrence-99", cache=tmp_path)
