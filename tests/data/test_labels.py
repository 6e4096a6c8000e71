"""Rows of labelled texts: one a row, or packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.data.labels import LEAST, Labelled, PackedLabels, labelled

IDS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1)


@given(ids=IDS, seq=st.integers(20, 50))
def test_packed_rows_hold_every_text_once_with_its_label(ids, seq):
  labels = list(range(len(ids)))
  rows = PackedLabels(ids, labels, seq=seq, pad=0)
  texts = {}
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
  assert [texts[number] for number in labels] == ids


@given(ids=IDS)
def test_short_texts_share_a_row_up_to_a_number_that_needs_no_data(ids):
  rows = PackedLabels([x[:3] for x in ids], [0] * len(ids), seq=24, pad=0)
  assert {row["label_P"].shape for row in (rows[0], rows.padding())} == {(24 // LEAST,)}
  assert len(rows) == -(-len(ids) // (24 // LEAST))


@pytest.mark.parametrize("cls", [Labelled, PackedLabels])
def test_padding_has_the_arrays_of_a_row_and_no_weight(cls):
  rows = cls([[1, 2]], [1], seq=9, pad=3)
  row, padding = rows[0], rows.padding()
  assert {k: (x.shape, x.dtype) for k, x in row.items()} == {
    k: (x.shape, x.dtype) for k, x in padding.items()
  }
  assert sum(x.sum() for k, x in padding.items() if k.startswith("weights")) == 0


def test_a_long_text_is_cut_and_keeps_its_last_token():
  tokenizer = tokenizers.byte_tokenizer()
  ids = tokenizer.prompt("abcdef")
  for packed in (False, True):
    row = labelled(["abcdef"], [0], tokenizer, seq=4, packed=packed)[0]
    assert row["tokens_T"].tolist() == [*ids[:3], ids[-1]]
