"""Datasets of TFDS for translation and summarisation: their columns, as text."""

import pytest
import tensorflow_datasets as tfds

from lm.data import tables


@pytest.mark.parametrize(
  "name, columns",
  [
    ("wmt14_translate/de-en", {"de", "en"}),
    ("cnn_dailymail", {"article", "highlights"}),
  ],
)
def test_each_language_and_each_part_is_a_column(name, columns, tmp_path):
  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=3, policy=policy):
    splits = tables.read(f"tfds:{name}", cache=tmp_path)
    records = list(splits["train"])
  assert len(records) == 3
  for record in records:
    assert columns <= set(record)
    assert all(isinstance(record[column], str) for column in columns)
