"""The smallest weights of each matrix become zero: magnitude pruning.

Han et al. 2015, arXiv:1506.02626, without training on. Zeros take as many bytes as
other numbers: nothing is saved, the model is one to study or to heal.
"""

import dataclasses

import jax.numpy as jnp

from lm import compress
from lm.compress import _masks


@dataclasses.dataclass(frozen=True)
class Method(compress.Pruning):
  """`percent` of each matrix of each layer."""

  def apply(self, subject):
    def pruned(path, array, place):
      scores = _masks.scores(array, place)
      gone = _masks.smallest(scores, len(place.letters), self.percent)
      return jnp.where(place.restored(gone), 0, array)

    return subject.model, subject.replaced(pruned)
