"""Attention to a cache, a block of its columns at a time: for CPUs.

Only the blocks that some row has come to are read: a cache of 2048 columns takes as
long as the tokens in it need. Softmax is computed as it goes (arXiv:2112.05682); a
block that a row does not see adds zeros to its sums, so the row's numbers do not depend
on how far its neighbours are, to the last bit.
"""

import jax
import jax.numpy as jnp

from lm.nn.attention.cache import widened
from lm.nn.attention.masks import MASKED, Mask
from lm.nn.layers import softcap as cap_logits
from lm.nn.linear import dot

SIZE = 256  # columns of a block


def attend(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """y_BTNH in float32; see `lm.nn.attention.backends`."""
  (B, T, N, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
  q_BTKGH = (q_BTNH * scale).reshape(B, T, K, N // K, H)
  is_filled_S = jnp.any(mask.k_positions_BS >= 0, axis=0)
  used = jnp.max(jnp.where(is_filled_S, jnp.arange(1, S + 1), 0))

  def add(number, state):
    top_BKGT, sum_BKGT, y_BKGTH = state
    first = number * SIZE
    # The last block moves back to end with the cache: its first columns count once.
    start = jnp.minimum(first, S - SIZE)
    columns = lambda x: jax.lax.dynamic_slice_in_dim(x, start, SIZE, axis=1)
    cut = lambda x: widened(jax.tree.map(columns, x))
    k_positions_BS = columns(mask.k_positions_BS)
    is_new_1S = (start + jnp.arange(SIZE) >= first)[None]
    k_positions_BS = jnp.where(is_new_1S, k_positions_BS, -1)
    seen_BTS = mask.replace(k_positions_BS=k_positions_BS).dense(T, SIZE)
    s_BKGTS = dot("BTKGH,BSKH->BKGTS", q_BTKGH, cut(k_BSKH), dtype)
    s_BKGTS = jnp.where(seen_BTS[:, None, None], cap_logits(s_BKGTS, softcap), MASKED)
    new_BKGT = jnp.maximum(top_BKGT, jnp.max(s_BKGTS, axis=-1))
    p_BKGTS = jnp.exp(s_BKGTS - new_BKGT[..., None])
    kept_BKGT = jnp.exp(top_BKGT - new_BKGT)
    z_BKGTH = dot("BKGTS,BSKH->BKGTH", p_BKGTS, cut(v_BSKH), dtype)
    return (
      new_BKGT,
      sum_BKGT * kept_BKGT + jnp.sum(p_BKGTS, axis=-1),
      y_BKGTH * kept_BKGT[..., None] + z_BKGTH,
    )

  rows_BKGT = (B, K, N // K, T)
  state = (
    jnp.full(rows_BKGT, MASKED, jnp.float32),
    jnp.zeros(rows_BKGT, jnp.float32),
    jnp.zeros((*rows_BKGT, H), jnp.float32),
  )
  blocks = jnp.maximum(1, -(-used // SIZE))
  _, sum_BKGT, y_BKGTH = jax.lax.fori_loop(0, blocks, add, state)
  y_BKGTH /= sum_BKGT[..., None]
  return jnp.moveaxis(y_BKGTH, 3, 1).reshape(B, T, N, H)


def lacks(q_BTNH, k_BSKH, mask: Mask, *, scale, softcap, dtype) -> str:
  """Returns the first property of a call that `attend` does not honour, or ""."""
  S = k_BSKH.shape[1]
  if mask.k_positions_BS is None or not mask.causal:
    return "attention without a cache of positions"
  if S <= SIZE:
    return f"a cache of {S} columns (above {SIZE} it does)"
  return ""
