"""Weights in int8, groups of 32 with a float16 scale: llama.cpp's Q8_0.

Each weight becomes the nearest number of its kind: lm/nn/quantised/int8_groups.py.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, each by itself."""

  def apply(self, subject):
    return subject.model, subject.quantised("int8_groups")
