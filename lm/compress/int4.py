"""Weights in int4, groups of 32 with a float16 scale: a seventh of float32.

Each weight becomes the nearest number of its kind: lm/nn/quantised/int4.py.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, each by itself."""

  def apply(self, subject):
    return subject.model, subject.quantised("int4")
