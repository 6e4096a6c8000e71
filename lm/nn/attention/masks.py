"""Attention masks: made once by a model, read by its blocks."""

import jax
import jax.numpy as jnp
from flax import struct

MASKED = -1e30  # a masked logit; finite, so that a row of padding stays free of NaN


@struct.dataclass
class Mask:
  """An attention mask in parts, which backends read; the reference reads `dense`.

  Positions of None are 0, 1, 2...; a position below 0 is padding, which nobody sees.
  Queries see keys of their own segment only; without segments all are one.
  """

  q_positions_BT: jax.Array | None = None
  k_positions_BS: jax.Array | None = None
  q_segments_BT: jax.Array | None = None
  k_segments_BS: jax.Array | None = None
  causal: bool = struct.field(pytree_node=False, default=True)
  window: int = struct.field(pytree_node=False, default=0)  # keys seen; 0 is no limit

  def __post_init__(self):
    # A negative window has no keys, and such a query would see all: MASKED is finite.
    assert self.window >= 0, self.window

  @classmethod
  def both_ways(cls, positions_BT=None, segments_BT=None) -> "Mask":
    """Returns an encoder's mask: every token sees all real tokens of its segment."""
    return cls(positions_BT, positions_BT, segments_BT, segments_BT, causal=False)

  @property
  def indexed(self) -> bool:
    """True if positions are the indices, as kernels with static masks need them."""
    return self.q_positions_BT is None and self.k_positions_BS is None

  @property
  def segmented(self) -> bool:
    """True if the rows have segments."""
    return self.q_segments_BT is not None

  def dense(self, T: int, S: int) -> jax.Array:
    """Returns True where query t sees key s: BTS, or 1TS if that is so in all rows."""
    q = jnp.arange(T)[None] if self.q_positions_BT is None else self.q_positions_BT
    k = jnp.arange(S)[None] if self.k_positions_BS is None else self.k_positions_BS
    ahead = q[:, :, None] - k[:, None, :]
    seen = jnp.broadcast_to(k[:, None, :] >= 0, ahead.shape)
    if self.causal:
      seen &= ahead >= 0
    if self.window:
      seen &= jnp.abs(ahead) < self.window
    if self.segmented:
      seen &= self.q_segments_BT[:, :, None] == self.k_segments_BS[:, None, :]
    return seen


def default_positions(tokens_BT, positions_BT, segments_BT) -> jax.Array:
  """Returns `positions_BT` if given, else 0, 1, 2..., from 0 in every segment.

  They are BT, or 1T when all rows have the same. A given -1 is padding.
  """
  if positions_BT is not None:
    return positions_BT
  if segments_BT is not None:
    return packed_positions(segments_BT)
  return jnp.arange(tokens_BT.shape[1])[None]


def of_segments(segments_BT: jax.Array, num: int) -> jax.Array:
  """Returns is_own_BPT: True at the tokens of the segments 1 to P = num of a row."""
  number_P = jnp.arange(1, num + 1)
  return segments_BT[:, None] == number_P[None, :, None]


def packed_positions(segments_BT: jax.Array) -> jax.Array:
  """Returns positions_BT that start from 0 in every segment of a packed row."""
  index_BT = jnp.broadcast_to(jnp.arange(segments_BT.shape[1]), segments_BT.shape)
  first_BT = jnp.pad(
    segments_BT[:, 1:] != segments_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True
  )
  start_BT = jax.lax.cummax(jnp.where(first_BT, index_BT, 0), axis=1)
  return index_BT - start_BT
