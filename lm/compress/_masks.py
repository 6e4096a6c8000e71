"""The smallest scores of a matrix, which pruning removes; see `Place.ordered`."""

import jax.numpy as jnp


def scores(array, place, squares=None):
  """Returns |w|, ordered; times the root of `squares`, of shape (..., K), if given.

  The product is Wanda's (Sun et al. 2023, arXiv:2306.11695, equation 1).
  """
  size = jnp.abs(place.ordered(array)).astype(jnp.float32)
  if squares is None:
    return size
  lead, inner = size.ndim - len(place.letters), len(place.summed)
  ones = (1,) * len(place.columns)
  return size * jnp.sqrt(squares).reshape(
    *size.shape[:lead], *ones, *size.shape[size.ndim - inner :]
  )


def smallest(scores, dims: int, percent: int):
  """Returns True for the smallest `percent` of the last `dims` dimensions together."""
  flat = scores.reshape(*scores.shape[: scores.ndim - dims], -1)
  rank = jnp.argsort(jnp.argsort(flat, axis=-1), axis=-1)
  return (rank < flat.shape[-1] * percent // 100).reshape(scores.shape)
