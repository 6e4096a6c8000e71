"""Relative positions: a learned bias of attention scores per bucket of distances."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.errors import Mistake
from lm.letters import weight
from lm.nn.linear import dot


def buckets(reach: int, count: int) -> np.ndarray:
  """Returns the bucket of every distance from 0 to `reach`.

  T5 (arXiv:1910.10683, section 2.1): half of the `count` buckets hold one distance
  each, the width of the others grows with the logarithm of the distance, and the last
  holds all distances from `reach` on.
  """
  exact = count // 2
  distance = np.arange(reach + 1)
  wide = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
  share = wide / np.float32(np.log(reach / exact)) * np.float32(count - exact)
  far = np.minimum(exact + share.astype(np.int32), count - 1)
  return np.where(distance < exact, distance, far).astype(np.int32)


def check_buckets(count: int, reach: int):
  """Raises Mistake unless `buckets` is defined, also for half as many on each side."""
  if count < 4 or count % 4:
    raise Mistake(f"buckets={count}; wanted a multiple of 4")
  if reach <= count // 2:
    raise Mistake(f"reach={reach}; wanted more than half the buckets, {count // 2}")


class Distances(nn.Module, kw_only=True):
  """The bias that each head adds to a score for the distance from query to key.

  With `both_ways` half of the buckets are for keys before the query and half for keys
  after it; otherwise keys after it have distance 0.
  """

  heads: int
  count: int  # of buckets
  reach: int  # distances from here on share the last bucket
  both_ways: bool
  std: float

  @nn.compact
  def __call__(self, q_positions, k_positions):
    """Returns the bias BNTS for positions BT and BS; 1NTS for 1T and 1S."""
    shape, init = (self.count, self.heads), nn.initializers.normal(self.std)
    table_UN = weight(self, "table", "UN", shape, init)
    ahead = k_positions[:, None, :] - q_positions[:, :, None]
    sides = 2 if self.both_ways else 1
    distance = jnp.abs(ahead) if self.both_ways else jnp.maximum(-ahead, 0)
    table = jnp.asarray(buckets(self.reach, self.count // sides))
    bucket = jnp.take(table, jnp.minimum(distance, self.reach))
    if self.both_ways:
      bucket = jnp.where(ahead > 0, bucket + self.count // 2, bucket)
    # A matmul, for its gradient: that of a gather is a scatter of every pair.
    one_hot = jax.nn.one_hot(bucket, self.count)
    return dot("BTSU,UN->BNTS", one_hot, table_UN, "float32")
