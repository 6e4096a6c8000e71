"""int4 in groups of 32 with scaled inputs, the scales chosen on texts: AWQ.

Lin et al. 2023, arXiv:2306.00978, section 3.2: an input of mean size a is divided by
a^alpha, and its weights are multiplied by as much before they are rounded; alpha is the
one of a grid between 0 and 1 with the least error of the outputs. The scales are kept
beside each matrix, where the paper moves them into the operation before.

The inputs are those of the model as it was. Tables of tokens, and experts, are rounded
as by int4.py.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lm import compress
from lm.compress import _statistics
from lm.nn.quantised import Place, int4, int4_scaled

GRID = 20  # values of alpha, from 0 on


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices."""

  reads_text = True

  def apply(self, subject):
    sizes = _statistics.collect(subject, "sizes")
    grams = _statistics.collect(subject, "gram")

    def quantised(path, array, place):
      if path not in grams:
        return int4.Matrix.of(array, place)
      return matrix(array, place, sizes[path], grams[path])

    return subject.model, subject.replaced(quantised)


def matrix(array, place: Place, sizes, gram) -> int4_scaled.Matrix:
  """Returns an array, or a stack, in int4; the statistics are those of its inputs."""
  chosen = jax.jit(scales_of, static_argnames="place")
  if array.ndim == len(place.letters):
    inputs = chosen(array, sizes, gram, place=place)
  else:
    pairs = zip(array, sizes, gram, strict=True)
    inputs = jnp.stack([chosen(*of_layer, place=place) for of_layer in pairs])
  shape = inputs.shape[:-1]
  lengths = dict(zip(place.letters, place.shape, strict=True))
  inputs = inputs.reshape(*shape, *(lengths[name] for name in place.summed))
  return int4_scaled.Matrix.scaled(array, place, inputs)


def scales_of(array, sizes_D, gram_DD, place: Place):
  """Returns the scales of the inputs of a matrix, of shape (D,)."""
  D = len(sizes_D)
  w_RD = place.ordered(array).reshape(-1, D).astype(jnp.float32)
  flat = Place("RD", "D", w_RD.shape)

  def error(alpha):
    scales_1D = _scales(sizes_D, alpha)[None]
    change_RD = int4.Matrix.of(w_RD * scales_1D, flat).dense() / scales_1D - w_RD
    return jnp.sum((change_RD @ gram_DD) * change_RD)

  alphas = jnp.arange(GRID) / GRID
  best = jnp.argmin(jax.lax.map(error, alphas))
  return _scales(sizes_D, alphas[best])


def _scales(sizes_D, alpha):
  """Returns sizes^alpha around 1: the root of their largest times their least is 1."""
  scales_D = jnp.maximum(sizes_D, 1e-8) ** alpha
  return scales_D / jnp.sqrt(jnp.max(scales_D) * jnp.min(scales_D))
