"""Narrow weights in loops: they are widened where they are read, each time."""

import jax
import jax.numpy as jnp

from lm.nn import cpu


def inside(weights, x):
  """Returns a tree of weights that are not computed with before x is there.

  XLA moves what does not change out of a loop, such as narrow weights that it widens:
  eight int8 matrices of 1024 x 1024 in the loop of decoding, 33 MB -> 4 MB beside their
  own 8. XLA:CPU drops `jax.lax.optimization_barrier` before it decides so. Here zeros
  stand for them if a number of x is both above 1 and below -1, which XLA does not see
  through, and LLVM, later, does. It would widen float8 first, hence its bits are taken.
  """
  if not cpu.active():
    return jax.lax.optimization_barrier((weights, x))[0]
  number = x[(0,) * x.ndim]
  never = (number > 1) & (number < -1)

  def keep(leaf):
    is_float8 = leaf.dtype.itemsize == 1 and jnp.issubdtype(leaf.dtype, jnp.floating)
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint8) if is_float8 else leaf
    bits = jnp.where(never, jnp.zeros_like(bits), bits)
    return jax.lax.bitcast_convert_type(bits, leaf.dtype) if is_float8 else bits

  return jax.tree.map(keep, weights)
