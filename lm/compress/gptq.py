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
  F, D = w_FD.shape
  w_FD, upper_DD = np.array(w_FD, np.float64), factor(gram_DD)
  w_FD[:, np.diag(gram_DD) == 0] = 0  # of no effect
  codes = np.full((F, -(-D // int4.SIZE) * int4.SIZE), 8, np.uint8)
  scales = np.zeros((F, codes.shape[1] // int4.SIZE), np.float16)
  for first in range(0, D, AT_ONCE):
    end = min(first + AT_ONCE, D)
    errors_FD = np.zeros((F, end - first))
    for k in range(first, end):
      group, place = divmod(k, int4.SIZE)
      if place == 0:
        scales[:, group] = _scale(w_FD[:, k : k + int4.SIZE])
      scale_F = scales[:, group].astype(np.float64)
      units_F = w_FD[:, k] / np.where(scale_F == 0, 1, scale_F)
      codes[:, k] = np.clip(np.round(units_F) + 8, 0, 15)
      number_F = (codes[:, k] - 8.0) * scale_F
      error_F = (w_FD[:, k] - number_F) / upper_DD[k, k]
      w_FD[:, k:end] -= np.outer(error_F, upper_DD[k, k:end])
      errors_FD[:, k - first] = error_F
    w_FD[:, end:] -= errors_FD @ upper_DD[first:end, end:]
  return codes, scales


def _scale(w_FQ):
  """Returns the scales of int4.py for a group of each column."""
  index_F1 = np.abs(w_FQ).argmax(axis=1)[:, None]
  return (np.take_along_axis(w_FQ, index_F1, axis=1)[:, 0] / -8).astype(np.float16)


def factor(gram_DD):
  """Returns the upper triangular U, U^T U the inverse of the damped gram matrix."""
  damped_DD = np.array(gram_DD, np.float64)
  diagonal_D = np.diag(damped_DD).copy()
  diagonal_D[diagonal_D == 0] = 1
  np.fill_diagonal(damped_DD, diagonal_D + DAMPING * diagonal_D.mean())
  inverse_DD = np.linalg.inv(damped_DD)
  return np.linalg.cholesky((inverse_DD + inverse_DD.T) / 2).T
