"""Concatenated rows: the token stream, every token but the first a target once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm.data.rows import concat

EOS, PAD = 99, 97
DOCUMENTS = st.lists(st.lists(st.integers(0, 20), max_size=25), min_size=1, max_size=12)


def stream_of(documents):
  return np.array([i for d in documents for i in [*d, EOS]], np.int32)


@given(documents=DOCUMENTS, seq=st.integers(1, 16))
def test_concat_rows_are_the_stream(documents, seq):
  stream = stream_of(documents)
  rows = concat.ConcatRows(stream, seq, PAD)
  rows = [rows[r] for r in range(len(rows))]
  real = [row["weights_T"] == 1 for row in rows]
  for name, expected in (("tokens_T", stream[:-1]), ("targets_T", stream[1:])):
    parts = [row[name][mask] for row, mask in zip(rows, real, strict=True)]
    np.testing.assert_array_equal(np.concatenate([[], *parts]), expected)
  # Only the last row is padded, and only at its end.
  assert all(mask.all() for mask in real[:-1])
  assert all((np.diff(mask.astype(int)) <= 0).all() for mask in real)
  assert all(row["weights_T"].dtype == np.float32 for row in rows)
