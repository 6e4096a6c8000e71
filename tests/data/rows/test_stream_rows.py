"""Rows of a stream: every place of a batch reads consecutive rows of the text."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data.loader import Loader
from lm.data.rows.stream import FullRows
from lm.letters import make_mesh

EOS, PAD = 99, 97
DOCUMENTS = st.lists(st.lists(st.integers(0, 20), max_size=25), min_size=1, max_size=12)


def stream_of(documents):
  return np.array([i for d in documents for i in [*d, EOS]], np.int32)


@given(documents=DOCUMENTS, seq=st.integers(1, 4), seed=st.integers(0, 9))
def test_a_place_of_a_batch_reads_the_stream_row_by_row(documents, seq, seed):
  stream = stream_of(documents)
  rows = FullRows(stream, seq, PAD)
  num, batch = len(rows), max(1, len(rows) // 3)
  options = dict(batch=batch, mesh=make_mesh(jax.devices()[:1]), seed=seed)
  if num < batch:
    with pytest.raises(ValueError, match=f"batch={batch}, and there are 0"):
      Loader(rows, order="carried", **options)
    return
  load, expected = Loader(rows, order="carried", **options), stream[: num * seq]
  for place in range(batch):
    place_rows = [load._row(step, place) for step in range(num)]
    assert all(row["weights_T"].all() for row in place_rows)
    ids = np.concatenate([row["tokens_T"] for row in place_rows])
    # The whole stream in its order, from any row on.
    rotations = [np.roll(expected, -seq * r) for r in range(num)]
    assert any(np.array_equal(ids, rotation) for rotation in rotations)
  first = [load._row(0, place)["tokens_T"].tobytes() for place in range(batch)]
  repeats = len({rows[r]["tokens_T"].tobytes() for r in range(num)}) < num
  small = seq * len(stream) < 40 or batch == 1
  assert small or repeats or len(set(first)) > 1
