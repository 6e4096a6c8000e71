"""Attention to a cache in blocks equals the reference."""

import jax
import numpy as np
import pytest
from test_backends import SCALE, B, tensors

from lm.nn.attention import backends
from lm.nn.attention.masks import Mask


@pytest.mark.parametrize("S, T, window, softcap", [(512, 1, 0, 0.0), (600, 3, 70, 5.0)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_of_a_cache_equal_the_reference(S, T, window, softcap, dtype):
  """Rows of other lengths, one with padding between its tokens and one of none."""
  filled_B = np.array([S, 257, 40, T])
  columns_BS = np.broadcast_to(np.arange(S), (B, S))
  k_positions_BS = np.where(columns_BS < filled_B[:, None], columns_BS, -1)
  k_positions_BS[1, 5:9] = -1
  q_positions_BT = filled_B[:, None] - T + np.arange(T)[None]
  mask = Mask(q_positions_BT, k_positions_BS.astype(np.int32), window=window)
  args, options = tensors(T, S, 4, 2)[:3], dict(scale=SCALE, softcap=softcap)
  attend = jax.jit(
    lambda name, *args: backends.attend(name, *args, mask, dtype=dtype, **options),
    static_argnums=0,
  )
  tolerance = 2e-5 if dtype == "float32" else 2e-2
  blocks_BTNH = attend("blocks", *args)
  np.testing.assert_allclose(blocks_BTNH, attend("xla", *args), atol=tolerance)
  np.testing.assert_array_equal(blocks_BTNH, attend("auto", *args))
