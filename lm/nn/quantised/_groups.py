"""Matrices of 4-bit codes, two to a byte, with a scale for each group of a column.

A group lies along what products sum over. Byte j of it has the code of number j in its
low half and that of number j + size / 2 in the high one, as in blocks of llama.cpp, so
that both halves are runs. A column that groups do not divide is filled up with zeros.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lm.nn import linear
from lm.nn.quantised import WHOLE, Place, Quantised, Reading, _loops, check_take


def grouped(array, place: Place, size: int):
  """Returns an array, ordered, in groups of `size`: columns, groups, numbers."""
  array = jnp.asarray(place.ordered(array), jnp.float32)
  array = array.reshape(*array.shape[: array.ndim - len(place.summed)], -1)
  missing = -array.shape[-1] % size
  array = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
  return array.reshape(*array.shape[:-1], -1, size)


def packed(codes):
  """Returns the bytes of codes from 0 to 15 in groups."""
  low, high = jnp.split(codes.astype(jnp.uint8), 2, axis=-1)
  return low | high << 4


def unpacked(values):
  """Returns the codes in bytes."""
  return jnp.concatenate([values & 15, values >> 4], axis=-1)


@struct.dataclass
class Groups(Quantised):
  """Bytes in (columns, groups, half a group), and scales in (columns, groups)."""

  size: ClassVar[int]  # of a group

  values: jax.Array
  scales: jax.Array
  place: Place = struct.field(pytree_node=False)

  def ndim_of_scales(self) -> int:
    return len(self.place.columns) + 1

  def sizes(self) -> dict[str, int]:
    place, (*columns, groups) = self.place, self.scales.shape[len(self.stack) :]
    inner, filled = place.summed[1:], groups * self.size - self._missing()
    first = filled // place.count(inner)
    sizes = dict(zip(place.columns, columns, strict=True)) | {place.summed[0]: first}
    return sizes | {name: place.count(name) for name in inner}

  def dims(self) -> "Groups":
    along = WHOLE if self._missing() else self.place.summed[0]
    groups = self.stack + self.place.columns + along
    return self.replace(values=groups + WHOLE, scales=groups)

  def _missing(self) -> int:
    """Returns the number of zeros that fill up a column."""
    return -self.place.count(self.place.summed) % self.size

  def numbers(self, values, scales):
    """Returns the numbers of groups, in float32, from some of the bytes and scales."""
    raise NotImplementedError

  def dense(self):
    return self.place.restored(self._ordered(self.values, self.scales))

  def product(self, reading: Reading, x, dtype):
    if (y := self.narrow(reading, x, dtype)) is not None:
      return y
    arrays = _loops.inside((self.values, self.scales), x)
    w = self._ordered(*arrays).astype(dtype)
    return reading.total(linear.dot(reading.equation, x, w, dtype))

  def take(self, ids):
    check_take(self.place)
    rows = (jnp.take(leaf, ids, axis=0) for leaf in (self.values, self.scales))
    return self._ordered(*rows)

  def ragged(self, x_RD, sizes_E, dtype):
    w_EFD = self._ordered(self.values, self.scales)
    return linear.ragged(x_RD, jnp.swapaxes(w_EFD, 1, 2), sizes_E, dtype)

  def _ordered(self, values, scales):
    """Returns the columns whose bytes and scales these are, in float32."""
    sizes = [self.sizes()[name] for name in self.place.summed]
    numbers = self.numbers(values, scales)
    numbers = numbers.reshape(*numbers.shape[:-2], -1)
    return numbers[..., : math.prod(sizes)].reshape(*numbers.shape[:-1], *sizes)
