"""Packed rows: every token once, documents apart, plans equal to the textbook's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.rows import first_fit

EOS, BOS, PAD = 99, 98, 97
DOCUMENTS = st.lists(st.lists(st.integers(0, 20), max_size=25), min_size=1, max_size=12)


def stream_of(documents):
  ids = np.array([i for d in documents for i in [*d, EOS]], np.int32)
  return ids, np.cumsum([0, *(len(d) + 1 for d in documents)])


def textbook(lengths, seq):
  """Returns the row of each piece by first-fit-decreasing, as published."""
  room, row_of = [], [0] * len(lengths)
  for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    fits = [r for r in range(len(room)) if room[r] >= lengths[piece]]
    row = fits[0] if fits else len(room)
    if not fits:
      room.append(seq)
    room[row] -= lengths[piece]
    row_of[piece] = row
  return row_of


@given(
  st.integers(1, 30).flatmap(
    lambda seq: st.tuples(st.just(seq), st.lists(st.integers(1, seq), max_size=60))
  )
)
def test_first_fit_is_the_textbooks(case):
  seq, lengths = case
  np.testing.assert_array_equal(
    first_fit.first_fit(lengths, seq), textbook(lengths, seq)
  )


def packed(documents, seq, bos=BOS):
  stream, offsets = stream_of(documents)
  plan = first_fit.make_plan(offsets, seq)
  rows = first_fit.PackedRows(stream, plan, seq, bos=bos, eos=EOS, pad=PAD)
  return [rows[r] for r in range(len(rows))]


@given(documents=DOCUMENTS, seq=st.integers(1, 16), bos=st.sampled_from([BOS, EOS]))
def test_first_fit_rows_hold_every_token_once_and_keep_documents_apart(
  documents, seq, bos
):
  pieces = []
  for row in packed(documents, seq, bos):
    segments_T, real_T = row["segments_T"], row["segments_T"] > 0
    np.testing.assert_array_equal(row["weights_T"], real_T)
    assert (row["tokens_T"][~real_T] == PAD).all()
    for segment in range(1, segments_T.max() + 1):
      positions = np.flatnonzero(segments_T == segment)
      assert (np.diff(positions) == 1).all()
      pieces.append((row["tokens_T"][positions], row["targets_T"][positions]))
  # The expected pieces: documents begin with bos, end by predicting eos, cut at seq.
  expected = [
    ([bos, *d][i : i + seq], [*d, EOS][i : i + seq])
    for d in documents
    for i in range(0, len(d) + 1, seq)
  ]
  assert sorted((a.tolist(), b.tolist()) for a, b in pieces) == sorted(expected)


def test_packing_wastes_little():
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, 129, 2000)
  num_rows = first_fit.first_fit(lengths, 128).max() + 1
  assert lengths.sum() / (128 * num_rows) > 0.97


@pytest.mark.parametrize("seq", [1, 2, 7])
def test_a_document_longer_than_a_row_is_cut(seq):
  rows = packed([list(range(20))], seq)
  assert len(rows) == -(-21 // seq)
  assert rows[0]["tokens_T"][0] == BOS
