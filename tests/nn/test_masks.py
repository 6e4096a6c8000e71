"""Masks as pictures: a row is a query, a column a key, 1 where it is attended to."""

import jax.numpy as jnp
import numpy as np
import pytest
import suffixes
from families import CAUSAL, WINDOW_3, picture

from lm.nn.attention.masks import Mask, packed_positions

ids = lambda *rows: jnp.array(rows, jnp.int32)
SEGMENTS = ids([1, 1, 2, 2, 2, 0])


@pytest.mark.parametrize(
  "mask, expected",
  [
    (Mask(), CAUSAL),
    (Mask(window=3), WINDOW_3),
    (Mask(causal=False), "111111 " * 6),
    (Mask(causal=False, window=2), "110000 111000 011100 001110 000111 000011"),
    (
      Mask(None, None, SEGMENTS, SEGMENTS),
      "100000 110000 001000 001100 001110 000001",
    ),
    (
      Mask(None, None, SEGMENTS, SEGMENTS, causal=False),
      "110000 110000 001110 001110 001110 000001",
    ),
    (
      Mask(None, None, SEGMENTS, SEGMENTS, window=2),
      "100000 110000 001000 001100 000110 000001",
    ),
    (  # padding on the left attends to no real token, and no token to it
      Mask(ids([-1, -1, 0, 1, 2, 3]), ids([-1, -1, 0, 1, 2, 3])),
      "000000 000000 001000 001100 001110 001111",
    ),
    (  # one query against a cache: two slots of padding, two not yet filled
      Mask(ids([3]), ids([0, 1, -1, -1, 2, 3, -1, -1])),
      "11001100",
    ),
    (
      Mask(ids([3]), ids([0, 1, -1, -1, 2, 3, -1, -1]), window=2),
      "00001100",
    ),
  ],
)
def test_pictures(mask, expected):
  expected_TS = picture(expected)
  with suffixes.checked("lm/"):
    dense = mask.dense(*expected_TS.shape)
  np.testing.assert_array_equal(dense[0].astype(int), expected_TS.astype(int))


def test_rows_differ_when_their_positions_do():
  positions_BT = ids([0, 1, -1], [-1, 0, 1])
  mask_BTS = Mask(positions_BT, positions_BT).dense(3, 3)
  expected = [picture("100 110 000"), picture("000 010 011")]
  np.testing.assert_array_equal(mask_BTS, expected)


def test_positions_in_segments_see_what_indices_see():
  segments_BT = ids([1, 1, 2, 2, 2, 0], [3, 3, 3, 3, 1, 1])
  positions_BT = packed_positions(segments_BT)
  np.testing.assert_array_equal(positions_BT, [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 0, 1]])
  for options in (dict(), dict(window=2), dict(causal=False, window=2)):
    by_index = Mask(None, None, segments_BT, segments_BT, **options)
    by_position = Mask(positions_BT, positions_BT, segments_BT, segments_BT, **options)
    assert by_index.indexed and not by_position.indexed
    np.testing.assert_array_equal(by_index.dense(6, 6), by_position.dense(6, 6))
