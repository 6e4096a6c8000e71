"""int4 weights in groups of 32 with a float16 scale: the numbers of llama.cpp's Q4_0.

A number is (code - 8) s. The scale is the number of largest magnitude in the group,
with its sign, / -8, so that this one is kept; 4.5 bits a number.
"""

import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._groups import Groups, grouped, packed, unpacked

SIZE = 32


def scale_of(groups):
  """Returns the scales of groups of numbers, in float32."""
  index = jnp.argmax(jnp.abs(groups), axis=-1, keepdims=True)
  return jnp.take_along_axis(groups, index, axis=-1)[..., 0] / -8


def codes_of(groups, scales):
  """Returns the codes, 0 to 15, of numbers in groups with these scales."""
  inverse = jnp.where(scales == 0, 0, 1 / jnp.where(scales == 0, 1, scales))
  return jnp.clip(jnp.trunc(groups * inverse[..., None] + 8.5), 0, 15)


@struct.dataclass
class Matrix(Groups):
  """Codes and float16 scales."""

  size, kernel = SIZE, "int4"

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    groups = grouped(array, place, SIZE)
    scales = scale_of(groups)
    codes = codes_of(groups, scales)
    return cls(packed(codes), scales.astype(jnp.float16), place)

  @classmethod
  def stored(cls, codes, scales, place: Place) -> "Matrix":
    """Returns the matrix of whole numbers, -8 to 7, and of their scales, as arrays."""
    scales = grouped(scales, place, SIZE)[..., 0]
    codes = grouped(codes, place, SIZE) + 8
    return cls(packed(codes), scales.astype(jnp.float16), place)

  def numbers(self, values, scales):
    codes = unpacked(values).astype(jnp.int8) - 8
    return codes.astype(jnp.float32) * scales[..., None].astype(jnp.float32)
