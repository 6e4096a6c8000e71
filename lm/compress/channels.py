"""Channels of the feed-forwards taken out: those with the least part of the output.

The part of a channel is what `_structure.outputs` measures, the squares of the norm in
Wanda's score (arXiv:2306.11695), added up over a channel's weights as in structured
pruning of layers of language models (LLM-Pruner, arXiv:2305.11627). All layers keep as
many. Training on heals: start a run from the result.
"""

import dataclasses

from lm import compress
from lm.compress import _structure


@dataclasses.dataclass(frozen=True)
class Method(compress.Pruning):
  """`percent` of each layer's channels."""

  reads_text = True

  def apply(self, subject):
    chosen = {}
    for path, energy_LF in _structure.outputs(subject, "FD").items():
      F = energy_LF.shape[1] - energy_LF.shape[1] * self.percent // 100
      index = _structure.largest(energy_LF, F)
      chosen[path.rpartition("/")[0]] = {"F": index}
    return _structure.taken(subject, chosen, ff=F)
