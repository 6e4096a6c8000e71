"""Weights of little effect become zero: |w| times the size of its inputs, Wanda.

Sun et al. 2023, arXiv:2306.11695: scores are compared within each column, whose sum
they are parts of. Tables of tokens, and experts, have |w| alone.
"""

import dataclasses

import jax.numpy as jnp

from lm import compress
from lm.compress import _masks, _statistics


@dataclasses.dataclass(frozen=True)
class Method(compress.Pruning):
  """`percent` of each column."""

  reads_text = True

  def apply(self, subject):
    squares = _statistics.collect(subject, "squares")

    def pruned(path, array, place):
      scores = _masks.scores(array, place, squares.get(path))
      gone = _masks.smallest(scores, len(place.summed), self.percent)
      return jnp.where(place.restored(gone), 0, array)

    return subject.model, subject.replaced(pruned)
