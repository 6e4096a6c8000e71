"""The first part of a row as the source, the rest as the targets: a prefix LM.

T5's (Raffel et al. 2020, arXiv:1910.10683, section 3.2.3), read by an encoder and a
decoder. The cut is uniform over the row.
"""

import dataclasses

import numpy as np

from lm.data.rows import ArrayShape, Rows, corrupt
from lm.data.rows.corrupt import _seq2seq


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(corrupt.Corruption):
  """No options."""

  def shapes(self, row: dict, seq: int) -> dict[str, ArrayShape]:
    return _seq2seq.shapes(corrupt.rounded(seq), corrupt.rounded(seq))

  def bound(self, tokenizer, seq: int) -> "Prefix":
    return Prefix(_seq2seq.Pairing(tokenizer, self.shapes({}, seq)))


class Prefix:
  """The corruption of one tokenizer and length; held-out rows do not count the eos."""

  def __init__(self, pairing: _seq2seq.Pairing):
    self._pairing = pairing

  def __call__(self, row: dict, draw, *, rows: Rows, view=None) -> dict:
    text = corrupt.text_of(row)
    if text.size < 2:
      return self._pairing.padding()
    cut = int(draw.integers(1, text.size))
    weights = np.append(np.ones(text.size - cut, bool), view is None)
    return self._pairing(text[:cut], text[cut:], weights)
