"""[CLS] A [SEP] B [SEP], masked too; half the time B is not what follows A.

BERT's next-sentence objective (Devlin et al. 2018, arXiv:1810.04805, section 3.1).
"""

import dataclasses
from typing import ClassVar

import numpy as np

from lm.data.rows import ArrayShape, Rows, corrupt, text_shapes
from lm.data.rows.corrupt import masked
from lm.errors import Mistake


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(masked.Corruption):
  """Options and views as in `masked`; [CLS] and [SEP] are never hidden."""

  specials: ClassVar = (corrupt.MASK, corrupt.CLS, corrupt.SEP)
  takes: ClassVar = ("text",)

  def shapes(self, row: dict, seq: int) -> dict[str, ArrayShape]:
    if seq < 8:
      raise Mistake(f"seq={seq} is too short for two sentences; wanted 8 or more")
    ids = ArrayShape((seq,), np.dtype(np.int32))
    return text_shapes(seq) | {
      "segments_T": ids,
      "types_T": ids,
      "next_": ArrayShape((), np.dtype(np.int32)),
    }

  def bound(self, tokenizer, seq: int) -> "Pairs":
    self.shapes({}, seq)
    return Pairs(masked.Masked(self, tokenizer), tokenizer)


class Pairs:
  """The corruption of one tokenizer.

  next_ is 0 where B follows A, 1 where it comes from another row; types_T is 0 in A and
  in padding, 1 in B.
  """

  def __init__(self, masking: masked.Masked, tokenizer):
    self._masking = masking
    self._cls, self._sep = tokenizer.id(corrupt.CLS), tokenizer.id(corrupt.SEP)

  def __call__(self, row: dict, draw, *, rows: Rows, view=None) -> dict:
    seq, text = row["targets_T"].size, corrupt.text_of(row)
    size = min(text.size, seq - 3)
    first, second, follows = text[: size // 2], text[size // 2 : size], True
    if text.size and draw.random() < 0.5:
      other = corrupt.text_of(rows[int(draw.integers(len(rows)))])[-second.size :]
      follows = np.array_equal(other, second)
      second = other
    pair = [self._cls, *first, self._sep, *second, self._sep] if text.size else []
    out = corrupt.fill(
      {"targets_T": (pair, seq), "weights_T": (np.ones(len(pair)), seq)}
    )
    types_T = (np.arange(seq) >= first.size + 2) & (out["weights_T"] > 0)
    out["segments_T"] = (out["weights_T"] > 0).astype(np.int32)
    out |= self._masking.hide(out, draw, view, spared=[self._cls, self._sep])
    out["types_T"] = types_T.astype(np.int32)
    return out | {"next_": np.array(not follows, np.int32)}
