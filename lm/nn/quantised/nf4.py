"""nf4 weights in groups of 64 with a float32 scale (QLoRA, arXiv:2305.14314).

A code stands for one of 16 values between -1 and 1, which normally distributed numbers
use alike (the paper's appendix E); the scale is the largest magnitude in the group.
"""

import jax.numpy as jnp
import numpy as np
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._groups import Groups, grouped, packed, unpacked

SIZE = 64
VALUES = np.array(
  [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
  ],
  np.float32,
)
MIDDLES = (VALUES[1:] + VALUES[:-1]) / 2


@struct.dataclass
class Matrix(Groups):
  """Codes and float32 scales."""

  size = SIZE

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    groups = grouped(array, place, SIZE)
    scales = jnp.max(jnp.abs(groups), axis=-1)
    units = groups / jnp.where(scales == 0, 1, scales)[..., None]
    codes = jnp.searchsorted(jnp.asarray(MIDDLES), units)
    return cls(packed(codes), scales, place)

  def numbers(self, values, scales):
    units = jnp.take(jnp.asarray(VALUES), unpacked(values), axis=0)
    return units * scales[..., None]
