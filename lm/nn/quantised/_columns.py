"""Matrices with one scale a column: value times scale."""

import jax
import jax.numpy as jnp
from flax import struct

from lm.nn import linear
from lm.nn.quantised import Place, Quantised, Reading, _loops, check_take

TINY = 1e-30  # least largest number of a column: one of zeros stays one


def scales(array, place: Place, largest: float):
  """Returns (an array, ordered, and float32 scales): the largest value is `largest`."""
  array = jnp.asarray(place.ordered(array), jnp.float32)
  axes = tuple(range(-len(place.summed), 0))
  top = jnp.max(jnp.abs(array), axis=axes, keepdims=True)
  scale = jnp.maximum(top, TINY) / largest
  return array / scale, jnp.squeeze(scale, axes)


@struct.dataclass
class Columns(Quantised):
  """Narrow values, ordered, and a float32 scale for each column."""

  values: jax.Array
  scales: jax.Array
  place: Place = struct.field(pytree_node=False)

  def ndim_of_scales(self) -> int:
    return len(self.place.columns)

  def sizes(self) -> dict[str, int]:
    order = self.place.columns + self.place.summed
    return dict(zip(order, self.values.shape[len(self.stack) :], strict=True))

  def dims(self) -> "Columns":
    columns = self.stack + self.place.columns
    return self.replace(values=columns + self.place.summed, scales=columns)

  def dense(self):
    ones = (1,) * len(self.place.summed)
    scales = self.scales.reshape(*self.scales.shape, *ones)
    return self.place.restored(jnp.asarray(self.values, jnp.float32) * scales)

  def product(self, reading: Reading, x, dtype):
    if (y := self.narrow(reading, x, dtype)) is not None:
      return y
    values = _loops.inside(self.values, x)
    y = linear.dot(reading.equation, x, values, dtype)
    return reading.total(y * reading.beside(self.scales, reading.columns, reading.out))

  def take(self, ids):
    check_take(self.place)
    scales = jnp.take(self.scales, ids, axis=0)[..., None]
    return linear.take(self.values, ids) * scales

  def ragged(self, x_RD, sizes_E, dtype):
    y_RF = linear.ragged(x_RD, jnp.swapaxes(self.values, 1, 2), sizes_E, dtype)
    R = x_RD.shape[0]
    return y_RF * jnp.repeat(self.scales, sizes_E, axis=0, total_repeat_length=R)
