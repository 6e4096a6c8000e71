"""int8 weights, a scale a column; what they are multiplied with stays as it is.

A value is round(w / s), s the largest |w| of its column / 127 (absmax: LLM.int8(),
arXiv:2208.07339, equation 1). Values are whole numbers that bfloat16 holds exactly.
"""

import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._columns import Columns, scales

LARGEST = 127


@struct.dataclass
class Matrix(Columns):
  """int8 values and float32 scales."""

  kernel = "int8"

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    values, scale = scales(array, place, LARGEST)
    return cls(jnp.round(values).astype(jnp.int8), scale, place)
