"""Who may look at whom, said once at the top of a model and consumed by every block."""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Mask:
  """Which keys each query sees; backends read the parts, the reference reads `dense`.

  Positions of None are 0, 1, 2...; a position below 0 is padding, which nobody sees.
  Queries see keys of their own segment only; without segments all are one.
  """

  q_positions_BT: jax.Array | None = None
  k_positions_BS: jax.Array | None = None
  q_segments_BT: jax.Array | None = None
  k_segments_BS: jax.Array | None = None
  causal: bool = struct.field(pytree_node=False, default=True)
  window: int = struct.field(pytree_node=False, default=0)  # keys seen; 0 is no limit

  def dense(self, T: int, S: int) -> jax.Array:
    """mask_BTS (B may be 1), True where query t sees key s."""
    q_BT = jnp.arange(T)[None] if self.q_positions_BT is None else self.q_positions_BT
    k_BS = jnp.arange(S)[None] if self.k_positions_BS is None else self.k_positions_BS
    ahead_BTS = q_BT[:, :, None] - k_BS[:, None, :]
    seen_BTS = jnp.broadcast_to(k_BS[:, None, :] >= 0, ahead_BTS.shape)
    if self.causal:
      seen_BTS &= ahead_BTS >= 0
    if self.window:
      seen_BTS &= jnp.abs(ahead_BTS) < self.window
    if self.q_segments_BT is not None:
      seen_BTS &= self.q_segments_BT[:, :, None] == self.k_segments_BS[:, None, :]
    return seen_BTS


def packed_positions(segments_BT: jax.Array) -> jax.Array:
  """positions_BT that start from 0 in every segment of a packed row."""
  index_BT = jnp.broadcast_to(jnp.arange(segments_BT.shape[1]), segments_BT.shape)
  first_BT = jnp.pad(
    segments_BT[:, 1:] != segments_BT[:, :-1], ((0, 0), (1, 0)), constant_values=True
  )
  start_BT = jax.lax.cummax(jnp.where(first_BT, index_BT, 0), axis=1)
  return index_BT - start_BT
