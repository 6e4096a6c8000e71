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


def scales_of(array, sizes_K, gram_KK, place: Place):
  """Returns the scales of the inputs of a matrix, of shape (K,)."""
  K = len(sizes_K)
  w_RK = place.ordered(array).reshape(-1, K).astype(jnp.float32)
  flat = Place("RK", "K", w_RK.shape)

  def error(alpha):
    scales_K = _scales(sizes_K, alpha)
    change_RK = int4.Matrix.of(w_RK * scales_K, flat).dense() / scales_K - w_RK
    return jnp.sum((change_RK @ gram_KK) * change_RK)

  alphas = jnp.arange(GRID) / GRID
  best = jnp.argmin(jax.lax.map(error, alphas))
  return _scales(sizes_K, alphas[best])


def _scales(sizes_K, alpha):
  """Returns sizes^alpha around 1: the root of their largest times their least is 1."""
  scales_K = jnp.maximum(sizes_K, 1e-8) ** alpha
  return scales_K / jnp.sqrt(jnp.max(scales_K) * jnp.min(scales_K))
