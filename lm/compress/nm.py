"""Two of four weights remain, the larger ones: N:M sparsity, stored without the zeros.

Mishra et al. 2021, arXiv:2104.08378; lm/nn/quantised/two_of_four.py has the form.
"""

import dataclasses

from lm import compress


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices, by magnitude."""

  def apply(self, subject):
    return subject.model, subject.quantised("two_of_four")
