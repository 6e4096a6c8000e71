"""Some tokens hidden, to be predicted: BERT's masked language model.

Devlin et al. 2018, arXiv:1810.04805, section 3.1.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from lm.data.rows import ArrayShape, Rows, corrupt
from lm.data.tokenizers import word_starts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(corrupt.Corruption):
  """A share `rate` of a row is chosen: 80 % become the mask, 10 % any token, 10 % stay.

  With `whole_words` all tokens of a word are chosen together. Held-out rows are read
  once for each of 1/rate views, with all that is chosen masked: together the views hide
  every token once, so that their loss is that of the whole text (as pseudo-perplexity,
  arXiv:1910.14659, which hides one token at a time).
  """

  rate: float = 0.15  # share of the tokens
  whole_words: bool = False  # all tokens of a word together

  specials: ClassVar = (corrupt.MASK,)
  takes: ClassVar = ("text", "documents")

  def __post_init__(self):
    corrupt.check_number("rate", self.rate, above=0, below=1)

  @property
  def views(self) -> int:
    return max(2, round(1 / self.rate))

  def shapes(self, row: dict, seq: int) -> dict[str, ArrayShape]:
    return row | {"segments_T": ArrayShape((seq,), np.dtype(np.int32))}

  def bound(self, tokenizer, seq: int) -> "Masked":
    return Masked(self, tokenizer)


class Masked:
  """The corruption of one tokenizer."""

  def __init__(self, options: Corruption, tokenizer):
    self._mask, self._size = corrupt.mask_id(tokenizer), tokenizer.size
    self._rate, self._views = options.rate, options.views
    self._joins = word_starts.joins(tokenizer) if options.whole_words else None

  def __call__(self, row: dict, draw, *, rows: Rows, view=None) -> dict:
    real_T = row["weights_T"] > 0
    return {"segments_T": real_T.astype(np.int32)} | row | self.hide(row, draw, view)

  def hide(self, row: dict, draw, view, *, spared=()) -> dict:
    """tokens_T, targets_T and weights_T of a row; ids in `spared` are never hidden."""
    text_T = row["targets_T"]
    can_T = (row["weights_T"] > 0) & ~np.isin(text_T, spared)
    hidden_T = np.zeros(text_T.shape, bool)
    hidden_T[can_T] = self._choose(text_T[can_T], draw, view)
    tokens_T = np.where(hidden_T, self._mask, text_T)
    if view is None:
      fate_T = draw.random(text_T.size)
      other_T = draw.integers(0, self._size, text_T.size)
      tokens_T = np.where(hidden_T & (fate_T >= 0.8), other_T, tokens_T)
      tokens_T = np.where(hidden_T & (fate_T >= 0.9), text_T, tokens_T)
    return {
      "tokens_T": tokens_T.astype(np.int32),
      "targets_T": text_T,
      "weights_T": hidden_T.astype(np.float32),
    }

  def _choose(self, text_T, draw, view) -> np.ndarray:
    """Flags of the tokens to hide.

    In training whole words are taken in random order until `rate` is reached.
    """
    starts_T = np.ones(text_T.size, bool)
    if self._joins is not None:
      starts_T[1:] = ~self._joins(text_T[:-1], text_T[1:])
    word_T = np.cumsum(starts_T) - 1
    sizes = np.bincount(word_T)
    order = draw.permutation(sizes.size)
    before = np.cumsum(sizes[order]) - sizes[order]
    if view is None:
      chosen = before < max(1, round(self._rate * text_T.size))
    else:
      chosen = np.arange(sizes.size) % self._views == view
    return np.isin(word_T, order[chosen])
