"""int4 weights as in int4.py of a matrix whose inputs are scaled: W diag(s) and x / s.

Inputs of larger effect are rounded more finely (AWQ, arXiv:2306.00978, section 3.2).
"""

import jax
import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place, Reading, int4


@struct.dataclass
class Matrix(int4.Matrix):
  """Codes, float16 scales, and the float32 s of each input that a column sums over."""

  inputs: jax.Array = None

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    ordered = place.ordered(array)
    lead = ordered.shape[: ordered.ndim - len(place.letters)]
    sizes = ordered.shape[ordered.ndim - len(place.summed) :]
    return cls.scaled(array, place, jnp.ones((*lead, *sizes), jnp.float32))

  @classmethod
  def scaled(cls, array, place: Place, inputs) -> "Matrix":
    """Returns the nearest to an array whose inputs are divided by `inputs`."""
    lead = inputs.shape[: inputs.ndim - len(place.summed)]
    sizes = inputs.shape[len(lead) :]
    beside = inputs.reshape(*lead, *(1,) * len(place.columns), *sizes)
    narrow = int4.Matrix.of(place.restored(place.ordered(array) * beside), place)
    return cls(narrow.values, narrow.scales, place, inputs)

  def dims(self) -> "Matrix":
    return super().dims().replace(inputs=self.stack + self.place.summed)

  def dense(self):
    lead, sizes = self.inputs.shape[: len(self.stack)], self.inputs.shape
    ones = (1,) * len(self.place.columns)
    beside = self.inputs.reshape(*lead, *ones, *sizes[len(lead) :])
    return self.place.restored(self.place.ordered(super().dense()) / beside)

  def product(self, reading: Reading, x, dtype):
    inputs = reading.beside(self.inputs, reading.summed, reading.xs)
    return super().product(reading, x / inputs, dtype)
