"""Two of each four weights along a sum, with their places: 2:4 sparsity.

Mishra et al. 2021, arXiv:2104.08378. The weights that remain are float32; a byte has
the places of both, in bits 0 to 1 and 2 to 3. 9 bytes for 16.
"""

import jax
import jax.numpy as jnp
from flax import struct

from lm.nn.quantised import Place
from lm.nn.quantised._groups import Groups, grouped

SIZE = 4


@struct.dataclass
class Matrix(Groups):
  """`values` are the two numbers of a group, and `scales` the bytes of their places."""

  size = SIZE

  @classmethod
  def of(cls, array, place: Place) -> "Matrix":
    return cls.chosen(array, place, jnp.abs(place.ordered(array)))

  @classmethod
  def chosen(cls, array, place: Place, scores) -> "Matrix":
    """Returns the two of each group with the larger scores, which are ordered."""
    groups = grouped(array, place, SIZE)
    scores = grouped(place.restored(scores), place, SIZE)
    _, index = jax.lax.top_k(scores, 2)
    index = jnp.sort(index, axis=-1)
    values = jnp.take_along_axis(groups, index, axis=-1)
    low, high = index[..., 0].astype(jnp.uint8), index[..., 1].astype(jnp.uint8)
    return cls(values, low | high << 2, place)

  def numbers(self, values, scales):
    index = jnp.stack([scales & 3, scales >> 2], axis=-1)
    return jnp.sum(jax.nn.one_hot(index, SIZE) * values[..., None], axis=-2)
