"""Spans replaced by sentinels in the source; the spans are the targets: T5's objective.

Raffel et al. 2020, arXiv:1910.10683, section 3.1.4.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from lm.data.rows import ArrayShape, Rows, corrupt
from lm.data.rows.corrupt import _seq2seq
from lm.errors import Mistake

SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))  # T5's names and number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(corrupt.Corruption):
  """A share `rate` of the tokens, in spans of `length` tokens on average."""

  rate: float = 0.15  # share of the tokens
  length: float = 3.0  # mean tokens of a span

  specials: ClassVar = SENTINELS

  def __post_init__(self):
    corrupt.check_number("rate", self.rate, above=0, below=1)
    corrupt.check_number("length", self.length, least=1)

  def split(self, size: int) -> tuple[int, int]:
    """Returns (the number of hidden tokens of `size`, the number of their spans)."""
    hidden = min(max(1, round(size * self.rate)), size - 1)
    return hidden, min(max(1, round(hidden / self.length)), size - hidden)

  def shapes(self, row: dict, seq: int) -> dict[str, ArrayShape]:
    if seq < 2:
      raise Mistake(f"seq={seq} is too short to take a span out; wanted 2 or more")
    hidden, spans = self.split(seq)
    if spans > len(SENTINELS):
      raise Mistake(
        f"{spans} spans in a row of {seq} tokens, and there are {len(SENTINELS)} "
        "sentinels; make the spans longer, or seq smaller"
      )
    sizes = seq - hidden + spans + 1, hidden + spans + 1
    return _seq2seq.shapes(*map(corrupt.rounded, sizes))

  def bound(self, tokenizer, seq: int) -> "Spans":
    return Spans(self, tokenizer, seq)


class Spans:
  """The corruption of one tokenizer and length.

  In held-out rows only the text is counted, not sentinels and eos.
  """

  def __init__(self, options: Corruption, tokenizer, seq: int):
    self._split = options.split
    self._pairing = _seq2seq.Pairing(tokenizer, options.shapes({}, seq))
    self._sentinels = np.array([tokenizer.id(name) for name in SENTINELS])

  def __call__(self, row: dict, draw, *, rows: Rows, view=None) -> dict:
    text = corrupt.text_of(row)
    if text.size < 2:
      return self._pairing.padding()
    hidden, spans = self._split(text.size)
    sizes = [random_sizes(text.size - hidden, spans, draw)]
    sizes.append(random_sizes(hidden, spans, draw))
    pieces = np.split(text, np.cumsum(np.stack(sizes, 1).reshape(-1))[:-1])
    source, targets, weights = [], [], []
    for sentinel, kept, taken in zip(
      self._sentinels, pieces[::2], pieces[1::2], strict=False
    ):
      source += [*kept, sentinel]
      targets += [sentinel, *taken]
      weights += [view is None, *(True for _ in taken)]
    return self._pairing(source, targets, [*weights, view is None])


def random_sizes(total: int, parts: int, draw) -> np.ndarray:
  """The sizes of `parts` pieces of `total`, none empty, all ways equally likely."""
  cuts = np.sort(draw.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(np.concatenate([[0], cuts, [total]]))
