"""Rows of labelled texts held in memory, one text a row."""

import numpy as np

from lm.data.packed import cut
from lm.data.rows import Rows, pad_id
from lm.errors import Mistake


class Labelled(Rows):
  """tokens_T, segments_T (0 is padding) and label_, the class of the text."""

  def __init__(self, ids, labels, *, seq: int, pad: int):
    if len(ids) != len(labels) or not len(ids):
      raise Mistake(
        f"{len(ids)} texts and {len(labels)} labels; wanted as many, and one at least"
      )
    self._ids, self._labels, self._seq, self._pad = ids, labels, seq, pad

  def __len__(self) -> int:
    return len(self._ids)

  def __getitem__(self, index: int) -> dict:
    ids, row = self._ids[index], self.padding()
    row["tokens_T"][: len(ids)] = ids
    row["segments_T"][: len(ids)] = 1
    row["label_"][...] = self._labels[index]
    row["weights_"][...] = 1
    return row

  def padding(self) -> dict:
    return {
      "tokens_T": np.full(self._seq, self._pad, np.int32),
      "segments_T": np.zeros(self._seq, np.int32),
      "label_": np.zeros((), np.int32),
      "weights_": np.zeros((), np.float32),
    }


def labelled(texts, labels, tokenizer, *, seq: int) -> Labelled:
  """Returns the rows of texts and their classes, whole numbers from 0.

  A text gets what the tokenizer puts around one ([CLS] and [SEP]); one of more than
  `seq` tokens is cut, and keeps its last token. Raises Mistake for another number of
  labels than texts.

    rows = labelled(["good", "bad"], [1, 0], tokenizer, seq=32)
  """
  ids = [cut(tokenizer.prompt(text), seq) for text in texts]
  return Labelled(ids, list(labels), seq=seq, pad=pad_id(tokenizer))
