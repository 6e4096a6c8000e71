"""int8 weights times int8 inputs, summed in int32: both have scales.

The weights are those of int8.py. An input has a scale for each vector that a product
sums over: its largest |x| / 127, found anew each time (LLM.int8(), arXiv:2208.07339,
section 2.1, vector-wise; without its outliers in float16). Rows of a table, and experts
that are computed in groups of rows, have the products of int8.py.
"""

import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Reading, int8
from lm.nn.quantised._columns import TINY


@struct.dataclass
class Matrix(int8.Matrix):
  """int8 values and float32 scales."""

  def product(self, reading: Reading, x, dtype):
    axes = tuple(reading.xs.index(name) for name in reading.summed)
    x = x.astype(jnp.float32)
    top = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scale = jnp.maximum(top, TINY) / int8.LARGEST
    values = jnp.round(x / scale).astype(jnp.int8)
    y = jnp.einsum(
      reading.equation, values, self.values, preferred_element_type=jnp.int32
    )
    beside = jnp.squeeze(scale, axes), reading.row_letters, reading.out
    y = y.astype(jnp.float32) * reading.beside(*beside)
    return reading.total(y * reading.beside(self.scales, reading.columns, reading.out))
