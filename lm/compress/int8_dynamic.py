"""Weights in int8 and inputs too, each vector of them with a scale of its own.

Each weight becomes the nearest number of its kind: lm/nn/quantised/int8_dynamic.py.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, each by itself."""

  def apply(self, subject):
    return subject.model, subject.quantised("int8_dynamic")
