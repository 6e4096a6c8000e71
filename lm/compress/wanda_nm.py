"""Two of four weights remain, those of more effect on texts: Wanda's scores, 2:4.

Sun et al. 2023, arXiv:2306.11695, section 3; stored as by nm.py. Tables of tokens, and
experts, are compared by magnitude.
"""

import dataclasses

from lm import compress
from lm.compress import _masks, _statistics
from lm.nn.quantised import two_of_four


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices."""

  reads_text = True

  def apply(self, subject):
    squares = _statistics.collect(subject, "squares")

    def chosen(path, array, place):
      scores = _masks.scores(array, place, squares.get(path))
      return two_of_four.Matrix.chosen(array, place, scores)

    return subject.model, subject.replaced(chosen)
