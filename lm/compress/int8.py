"""Weights in int8, a scale a column: a quarter of float32, the inputs as they are.

Each weight becomes the nearest number of its kind: lm/nn/quantised/int8.py.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, each by itself."""

  def apply(self, subject):
    return subject.model, subject.quantised("int8")
