"""int8 weights in groups of 32 with a float16 scale: the numbers of llama.cpp's Q8_0.

A number is code * s, s the largest magnitude of its group / 127; 8.5 bits a number.
"""

import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._groups import Groups, grouped

SIZE = 32
LARGEST = 127


@struct.dataclass
class Matrix(Groups):
  """Codes, one a byte, and float16 scales."""

  size, kernel = SIZE, "int8_groups"

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    groups = grouped(array, place, SIZE)
    scales = jnp.max(jnp.abs(groups), axis=-1) / LARGEST
    codes = jnp.round(groups / jnp.where(scales == 0, 1, scales)[..., None])
    return cls(codes.astype(jnp.int8), scales.astype(jnp.float16), place)

  @classmethod
  def stored(cls, codes, scales, place: Place) -> "Matrix":
    """Returns the matrix of whole numbers and of their scales, each of its shape."""
    scales = grouped(scales, place, SIZE)[..., 0]
    codes = grouped(codes, place, SIZE)
    return cls(codes.astype(jnp.int8), scales.astype(jnp.float16), place)

  def numbers(self, values, scales):
    return values.astype(jnp.float32) * scales[..., None].astype(jnp.float32)
