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
  D = gram.shape[-1]
  columns = ordered.shape[len(lead) : len(lead) + len(place.columns)]
  parts = [
    rounded(w_FD, gram_DD)
    for w_FD, gram_DD in zip(
      ordered.reshape(-1, np.prod(columns, dtype=int), D),
      gram.reshape(-1, D, D),
      strict=True,
    )
  ]
  codes, scales = (np.stack(part) for part in zip(*parts, strict=True))
  codes = codes.reshape(*lead, *columns, -1, int4.SIZE)
  scales = scales.reshape(*lead, *columns, -1)
  return int4.Matrix(packed(jnp.asarray(codes)), jnp.asarray(scales), place)


def rounded(w_FD, gram_DD):
  """Returns (codes, scales) of F columns that sum over D inputs with this gram matrix.

  They are in groups, filled up with zeros where groups do not divide D.
  """
  D, F = gram_DD.shape[0], len(w_FD)
  # An input's weights lie side by side: they are rounded, and then written, together.
  w_DF = np.array(w_FD.T, np.float64, order="C")
  w_DF[np.diag(gram_DD) == 0] = 0  # of no effect
  upper_DD = factor(gram_DD)
  codes_DF = np.full((-(-D // int4.SIZE) * int4.SIZE, F), 8, np.uint8)
  scales_PF = np.zeros((len(codes_DF) // int4.SIZE, F), np.float16)
  for first in range(0, D, AT_ONCE):
    end = min(first + AT_ONCE, D)
    errors_QF = np.empty((end - first, F))
    for k in range(first, end):
      group, place = divmod(k, int4.SIZE)
      if place == 0:
        scales_PF[group] = _scale(w_DF[k : k + int4.SIZE])
      scale_F = scales_PF[group].astype(np.float64)
      units_F = w_DF[k] / np.where(scale_F == 0, 1, scale_F)
      codes_DF[k] = np.clip(np.round(units_F) + 8, 0, 15)
      error_F = (w_DF[k] - (codes_DF[k] - 8.0) * scale_F) / upper_DD[k, k]
      w_DF[k:end] -= upper_DD[k, k:end, None] * error_F
      errors_QF[k - first] = error_F
    w_DF[end:] -= upper_DD[first:end, end:].T @ errors_QF
  return codes_DF.T, scales_PF.T


def _scale(w_QF):
  """Returns the scales of int4.py for a group of each column."""
  index_1F = np.abs(w_QF).argmax(axis=0)[None]
  return (np.take_along_axis(w_QF, index_1F, axis=0)[0] / -8).astype(np.float16)


def factor(gram_DD):
  """Returns the upper triangular U, U^T U the inverse of the damped gram matrix."""
  damped_DD = np.array(gram_DD, np.float64)
  diagonal_D = np.diag(damped_DD).copy()
  diagonal_D[diagonal_D == 0] = 1
  np.fill_diagonal(damped_DD, diagonal_D + DAMPING * diagonal_D.mean())
  inverse_DD = np.linalg.inv(damped_DD)
  return np.linalg.cholesky((inverse_DD + inverse_DD.T) / 2).T
