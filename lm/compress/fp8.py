"""Weights in float8 (e4m3), a scale a column: a quarter of float32.

Each weight becomes the nearest number of its kind: lm/nn/quantised/fp8.py.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, each by itself."""

  def apply(self, subject):
    return subject.model, subject.quantised("fp8")
