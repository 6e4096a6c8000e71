"""Rows of `concat` in the order of the text, for a model that carries a state.

Place b of a batch continues where place b of the batch before ended (truncated
backpropagation through time), so that the state after one batch fits the next.
"""

from lm.data.rows import concat, pad_id

ORDER = "carried"
HOLDS = "text"
shapes = concat.shapes


def rows(corpus, split: str, seq: int) -> concat.ConcatRows:
  """The rows of a split; raises Mistake as `concat.rows` does."""
  whole = concat.rows(corpus, split, seq)
  if split != "train":
    return whole
  return FullRows(corpus.tokens(split), seq, pad_id(corpus.tokenizer))


class FullRows(concat.ConcatRows):
  """`ConcatRows` without the last row where it is partial.

  Training goes round and round, and padding within the text would reach the state.
  """

  def __len__(self) -> int:
    return max(0, (len(self._tokens) - 1) // self._seq)
