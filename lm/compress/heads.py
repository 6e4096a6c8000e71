"""Attention heads taken out: those with the least part of the output.

The part of a head is what `_structure.outputs` measures. Heads that share keys and
values go together, and one group stays at least; all layers keep as many.
(Michel et al. 2019, arXiv:1905.10650, remove heads one by one.) Training on heals:
start a run from the result.
"""

import dataclasses

import numpy as np

from lm import compress, models
from lm.compress import _structure
from lm.errors import Mistake


@dataclasses.dataclass(frozen=True)
class Method(compress.Pruning):
  """`percent` of each layer's heads, in whole groups."""

  reads_text = True

  def apply(self, subject):
    energies, fields = _structure.outputs(subject, "NHD"), models.fields(subject.model)
    N, H, _ = subject.places[next(iter(energies))].shape
    K = fields.get("kv_heads", 0) or N
    kept, G = K - K * self.percent // 100, N // K
    if kept == K:
      raise Mistake(
        f"{self.percent} % of {K} groups of heads is none; wanted {-(-100 // K)} % or "
        "more"
      )
    chosen = {}
    for path, energy in energies.items():
      energy_LK = energy.reshape(len(energy), K, G * H).sum(axis=2)
      index_LK = _structure.largest(energy_LK, kept)
      index_LN = (index_LK[..., None] * G + np.arange(G)).reshape(len(energy), -1)
      chosen[path.rpartition("/")[0]] = {"K": index_LK, "N": index_LN}
    sizes = dict(heads=kept * G, kv_heads=kept, head_size=H)
    own = {name: size for name, size in sizes.items() if name in fields}
    return _structure.taken(subject, chosen, **own)
