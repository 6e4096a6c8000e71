"""Rows of examples in memory: packed, along one letter or two, or one a row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import packed, tokenizers
from lm.data.labels import Labelled, labelled
from lm.data.packed import LEAST, Packed

IDS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1)
PAIRS = st.lists(
  st.tuples(IDS.map(lambda x: x[0]), IDS.map(lambda x: x[0])), min_size=1
)


def rows_of(ids, *, seq, pad=0):
  examples = [{"tokens_T": x, "label_": number} for number, x in enumerate(ids)]
  dtypes = {"tokens_T": "int32", "label_": "int32"}
  return Packed(examples, sizes={"T": seq}, dtypes=dtypes, pad=pad)


@given(ids=IDS, seq=st.integers(20, 50))
def test_packed_rows_hold_every_text_once_with_its_label(ids, seq):
  rows, texts = rows_of(ids, seq=seq), {}
  for index, members in enumerate(rows.members):
    row = rows[index]
    weights_P = row["weights_P"]
    assert weights_P.tolist() == [1] * len(members) + [0] * (
      len(weights_P) - len(members)
    )
    for place, number in enumerate(members):
      assert row["label_P"][place] == number
      texts[int(number)] = row["tokens_T"][row["segments_T"] == place + 1].tolist()
    assert (row["tokens_T"][row["segments_T"] == 0] == 0).all()
    assert (np.diff(row["segments_T"][row["segments_T"] > 0]) >= 0).all()
  assert [texts[number] for number in range(len(ids))] == ids
  empty = sum((rows[i]["segments_T"] == 0).sum() for i in range(len(rows)))
  assert rows.padding_share == pytest.approx(empty / (seq * len(rows)))


@given(ids=IDS)
def test_short_texts_share_a_row_up_to_a_number_that_needs_no_data(ids):
  rows = rows_of([x[:3] for x in ids], seq=24)
  assert {row["label_P"].shape for row in (rows[0], rows.padding())} == {(24 // LEAST,)}
  assert len(rows) == -(-len(ids) // (24 // LEAST))


@given(pairs=PAIRS, S=st.integers(20, 40), T=st.integers(20, 40))
def test_sources_and_targets_share_a_row_and_a_segment(pairs, S, T):
  examples = [
    {"source_S": source, "tokens_T": target, "weights_T": np.ones(len(target))}
    for source, target in pairs
  ]
  dtypes = {"source_S": "int32", "tokens_T": "int32", "weights_T": "float32"}
  rows = Packed(examples, sizes={"S": S, "T": T}, dtypes=dtypes, pad=7)
  read = {}
  for index, members in enumerate(rows.members):
    row = rows[index]
    for place, number in enumerate(members):
      source = row["source_S"][row["source_segments_S"] == place + 1].tolist()
      read[int(number)] = (
        source,
        row["tokens_T"][row["segments_T"] == place + 1].tolist(),
      )
    assert (row["weights_T"] == (row["segments_T"] > 0)).all()
    assert (row["source_S"][row["source_segments_S"] == 0] == 7).all()
  assert [read[number] for number in range(len(pairs))] == pairs
  # First fit opens a row only for what fits in none before it.
  assert len(rows) <= len(pairs)


def test_shapes_need_no_data():
  rows = rows_of([[1, 2]], seq=9, pad=3)
  dtypes = {"tokens_T": "int32", "label_": "int32"}
  assert packed.shapes({"T": 9}, dtypes) == rows.shapes()
  row = rows[0]
  assert {k: (x.shape, x.dtype) for k, x in row.items()} == rows.shapes()
  assert rows.padding()["weights_P"].sum() == 0


def test_a_text_a_row_has_the_arrays_of_its_padding():
  rows = Labelled([[1, 2]], [1], seq=9, pad=3)
  row, padding = rows[0], rows.padding()
  assert {k: (x.shape, x.dtype) for k, x in row.items()} == rows.shapes()
  assert row["weights_"] == 1 and padding["weights_"] == 0


def test_a_long_text_is_cut_and_keeps_its_last_token():
  tokenizer = tokenizers.byte_tokenizer()
  ids = tokenizer.prompt("abcdef")
  row = labelled(["abcdef"], [0], tokenizer, seq=4)[0]
  assert row["tokens_T"].tolist() == [*ids[:3], ids[-1]]
