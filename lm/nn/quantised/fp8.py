"""float8 weights (e4m3: 4 bits of exponent, 3 of mantissa), a scale a column.

Micikevicius et al. 2022, arXiv:2209.05433, in the form without infinities; the largest
number of a column becomes the largest of the format, 448.
"""

import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._columns import Columns, scales

LARGEST = 448


@struct.dataclass
class Matrix(Columns):
  """float8_e4m3fn values and float32 scales."""

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    values, scale = scales(array, place, LARGEST)
    return cls(values.astype(jnp.float8_e4m3fn), scale, place)
