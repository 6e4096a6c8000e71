"""Where a token stands, as the first Transformers told it: sinusoids, and distances."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.errors import Mistake
from lm.letters import weight
from lm.nn.linear import dot


def sinusoids(positions, D: int):
  """Vectors of width D for positions BT or 1T (arXiv:1706.03762, section 3.5).

  All sines stand before all cosines, as in the authors' code.
  """
  half = -(-D // 2)
  speeds = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1))
  turns = positions[..., None].astype(jnp.float32) * speeds[None, None]
  return jnp.concatenate([jnp.sin(turns), jnp.cos(turns)], axis=-1)[..., :D]


def buckets(reach: int, count: int) -> np.ndarray:
  """The bucket of the distances 0 to `reach`: each its own, then ever wider ones.

  T5 (arXiv:1910.10683, section 2.1): half of the `count` buckets are for one distance
  each, the others grow with its logarithm; all from `reach` on are in the last.
  """
  exact = count // 2
  distance = np.arange(reach + 1)
  wide = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
  share = wide / np.float32(np.log(reach / exact)) * np.float32(count - exact)
  far = np.minimum(exact + share.astype(np.int32), count - 1)
  return np.where(distance < exact, distance, far).astype(np.int32)


def check_buckets(count: int, reach: int):
  """Mistake unless `buckets` works, also for half as many, one for each side."""
  if count < 4 or count % 4:
    raise Mistake(f"buckets={count}; wanted a multiple of 4")
  if reach <= count // 2:
    raise Mistake(f"reach={reach}; wanted more than half the buckets, {count // 2}")


class Distances(nn.Module):
  """What each head adds to a score for the distance from query to key.

  `both_ways` tells keys before the query from those after it, with half the buckets
  for each; otherwise those after it count as distance 0.
  """

  heads: int
  count: int  # of buckets
  reach: int  # distances from here on are one
  both_ways: bool
  std: float

  @nn.compact
  def __call__(self, q_positions, k_positions):
    """The bias BNTS for positions BT and BS; 1NTS for 1T and 1S."""
    shape, init = (self.count, self.heads), nn.initializers.normal(self.std)
    table_CN = weight(self, "table", "CN", shape, init)
    ahead = k_positions[:, None, :] - q_positions[:, :, None]
    sides = 2 if self.both_ways else 1
    distance = jnp.abs(ahead) if self.both_ways else jnp.maximum(-ahead, 0)
    table = jnp.asarray(buckets(self.reach, self.count // sides))
    bucket = jnp.take(table, jnp.minimum(distance, self.reach))
    if self.both_ways:
      bucket = jnp.where(ahead > 0, bucket + self.count // 2, bucket)
    # A matmul, for its gradient: that of a gather is a scatter of every pair.
    one_hot = jax.nn.one_hot(bucket, self.count)
    return dot("BTSC,CN->BNTS", one_hot, table_CN, "float32")
