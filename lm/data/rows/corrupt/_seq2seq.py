"""Rows of an encoder-decoder: a source, and the targets that follow from it."""

import numpy as np

from lm.data.rows import ArrayShape
from lm.data.rows.corrupt import fill, start_id


def shapes(source_size: int, target_size: int) -> dict[str, ArrayShape]:
  """The arrays of `row`, for sources and targets padded to these sizes."""
  ids, int32 = ArrayShape((target_size,), np.dtype(np.int32)), np.dtype(np.int32)
  return {
    "source_S": ArrayShape((source_size,), int32),
    "source_segments_S": ArrayShape((source_size,), int32),
    "tokens_T": ids,
    "targets_T": ids,
    "weights_T": ArrayShape((target_size,), np.dtype(np.float32)),
  }


class Pairing:
  """Makes the row of a source and its targets, both ended by eos.

  The decoder reads the targets, one position later, behind its start token.
  """

  def __init__(self, tokenizer, shapes: dict[str, ArrayShape]):
    self._eos, self._start = tokenizer.eos, start_id(tokenizer)
    [self._source_size], [self._target_size] = (
      shapes[key].shape for key in ("source_S", "tokens_T")
    )

  def __call__(self, source, targets, weights) -> dict[str, np.ndarray]:
    """`weights` are those of the targets and of the eos behind them; without a source
    the row is padding."""
    source, targets = (
      [*ids, self._eos] if len(ids) else [] for ids in (source, targets)
    )
    return fill(
      {
        "source_S": (source, self._source_size),
        "source_segments_S": (np.ones(len(source)), self._source_size),
        "tokens_T": ([self._start, *targets[:-1]], self._target_size),
        "targets_T": (targets, self._target_size),
        "weights_T": (weights, self._target_size),
      }
    )

  def padding(self) -> dict[str, np.ndarray]:
    """The row of no text: weight 0."""
    return self((), (), ())
