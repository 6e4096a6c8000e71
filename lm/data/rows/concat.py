"""Rows of text cut wherever a row is full; a row may hold the end of one document and
the beginning of the next. The usual choice for pretraining.
"""

from lm.data.rows import Rows, check_length, empty_row, pad_id, text_shapes

ORDER = "shuffled"
HOLDS = "text"
shapes = text_shapes


def rows(corpus, split: str, seq: int) -> "ConcatRows":
  """The rows of a split.

  Raises Mistake if the training text does not fill one row. Held-out text may be
  short: its last row is padded, as any last row is.
  """
  check_length(corpus, split, seq, least=seq + 1 if split == "train" else 2)
  return ConcatRows(corpus.tokens(split), seq, pad_id(corpus.tokenizer))


class ConcatRows(Rows):
  """Row r: inputs [r * seq, r * seq + seq) of the token stream, targets one further.

  Every token but the first is a target once. The last row is padded, weight 0.
  """

  def __init__(self, tokens, seq: int, pad: int):
    self._tokens, self._seq, self._pad = tokens, seq, pad

  def __len__(self) -> int:
    return max(0, -(-(len(self._tokens) - 1) // self._seq))

  def __getitem__(self, index: int) -> dict:
    start = int(index) * self._seq
    ids = self._tokens[start : start + self._seq + 1]
    row = self.padding()
    size = len(ids) - 1
    row["tokens_T"][:size] = ids[:-1]
    row["targets_T"][:size] = ids[1:]
    row["weights_T"][:size] = 1
    return row

  def padding(self) -> dict:
    return empty_row(self._seq, self._pad)
