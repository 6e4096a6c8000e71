"""A part of the parameters, trained as they are: the head alone, or the last layers.

  cfg.adapt = dict(name="part", train=("classifier/.*", "pooler/.*"))

Parameters of a new head, which no store has, are always trained.
"""

import dataclasses

from lm import adapt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation(adapt.Adaptation):
  """The parameters that `train` names."""

  def added(self, weights: dict) -> dict:
    return {}
