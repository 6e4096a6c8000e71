"""int4 in groups of 32, rounded one input after the other: GPTQ.

Frantar et al. 2022, arXiv:2210.17323, algorithm 1: what the rounding of one weight adds
to the output of its column is taken off by the weights that are still to be rounded,
as well as they can, on the inputs of a text. The numbers are those of int4.py.

The inputs are those of the model as it was, for all matrices at once, not those of
layers rounded before. Tables of tokens, and experts, are rounded as by int4.py.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from lm import compress
from lm.compress import _statistics
from lm.nn.quantised import int4
from lm.nn.quantised._groups import packed

DAMPING = 0.01  # of the mean of the diagonal, added to it
AT_ONCE = 128  # inputs whose errors reach later ones in one product


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices."""

  reads_text = True

  def apply(self, subject):
    grams = _statistics.collect(subject, "gram")

    def quantised(path, array, place):
      if path not in grams:
        return int4.Matrix.of(array, place)
      return matrix(array, place, np.asarray(grams[path], np.float64))

    return subject.model, subject.replaced(quantised)


def matrix(array, place, gram) -> int4.Matrix:
  """Returns an array, or a stack, in int4; `gram` is the sum of x x^T of its inputs."""
  ordered = np.asarray(place.ordered(np.asarray(array, np.float32)))
  lead = ordered.shape[: ordered.ndim - len(place.letters)]
  K = gram.shape[-1]
  columns = ordered.shape[len(lead) : len(lead) + len(place.columns)]
  parts = [
    rounded(w_NK, gram_KK)
    for w_NK, gram_KK in zip(
      ordered.reshape(-1, np.prod(columns, dtype=int), K),
      gram.reshape(-1, K, K),
      strict=True,
    )
  ]
  codes, scales = (np.stack(part) for part in zip(*parts, strict=True))
  codes = codes.reshape(*lead, *columns, -1, int4.SIZE)
  scales = scales.reshape(*lead, *columns, -1)
  return int4.Matrix(packed(jnp.asarray(codes)), jnp.asarray(scales), place)


def rounded(w_NK, gram_KK):
  """Returns (codes, scales) of N columns that sum over K inputs with this gram matrix.

  They are in groups, filled up with zeros where groups do not divide K.
  """
  N, K = w_NK.shape
  w_NK, upper_KK = np.array(w_NK, np.float64), factor(gram_KK)
  w_NK[:, np.diag(gram_KK) == 0] = 0  # of no effect
  codes = np.full((N, -(-K // int4.SIZE) * int4.SIZE), 8, np.uint8)
  scales = np.zeros((N, codes.shape[1] // int4.SIZE), np.float16)
  for first in range(0, K, AT_ONCE):
    end = min(first + AT_ONCE, K)
    errors_NK = np.zeros((N, end - first))
    for k in range(first, end):
      group, place = divmod(k, int4.SIZE)
      if place == 0:
        scales[:, group] = _scale(w_NK[:, k : k + int4.SIZE])
      scale_N = scales[:, group].astype(np.float64)
      units_N = w_NK[:, k] / np.where(scale_N == 0, 1, scale_N)
      codes[:, k] = np.clip(np.round(units_N) + 8, 0, 15)
      number_N = (codes[:, k] - 8.0) * scale_N
      error_N = (w_NK[:, k] - number_N) / upper_KK[k, k]
      w_NK[:, k:end] -= np.outer(error_N, upper_KK[k, k:end])
      errors_NK[:, k - first] = error_N
    w_NK[:, end:] -= errors_NK @ upper_KK[first:end, end:]
  return codes, scales


def _scale(w_NQ):
  """Returns the scales of int4.py for a group of each column."""
  index_N1 = np.abs(w_NQ).argmax(axis=1)[:, None]
  return (np.take_along_axis(w_NQ, index_N1, axis=1)[:, 0] / -8).astype(np.float16)


def factor(gram_KK):
  """Returns the upper triangular U, U^T U the inverse of the damped gram matrix."""
  damped_KK = np.array(gram_KK, np.float64)
  diagonal_K = np.diag(damped_KK).copy()
  diagonal_K[diagonal_K == 0] = 1
  np.fill_diagonal(damped_KK, diagonal_K + DAMPING * diagonal_K.mean())
  inverse_KK = np.linalg.inv(damped_KK)
  return np.linalg.cholesky((inverse_KK + inverse_KK.T) / 2).T
