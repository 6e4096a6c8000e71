"""Rows of labelled texts held in memory: one text a row, or several."""

import numpy as np

from lm.data.rows import Rows, pad_id
from lm.data.rows.first_fit import first_fit
from lm.errors import Mistake

LEAST = 8  # tokens that a text takes of a packed row, so that their number is limited


class Labelled(Rows):
  """tokens_T, segments_T (0 is padding) and label_, the class of the text."""

  def __init__(self, ids, labels, *, seq: int, pad: int):
    _check(ids, labels)
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
    return _empty(self._seq, self._pad) | {
      "label_": np.zeros((), np.int32),
      "weights_": np.zeros((), np.float32),
    }


class PackedLabels(Rows):
  """Several texts a row: tokens_T, segments_T (1, 2, ...; 0 is padding), label_P.

  Text p of a row has segment p + 1; weights_P is 0 for what has no text. `members` are
  the numbers of the texts in each row.
  """

  def __init__(self, ids, labels, *, seq: int, pad: int):
    _check(ids, labels)
    self._ids, self._labels, self._seq, self._pad = ids, labels, seq, pad
    lengths_P = [max(len(x), min(LEAST, seq)) for x in ids]
    row_P = first_fit(lengths_P, seq)
    order_P = np.argsort(row_P, kind="stable")
    self.members = np.split(order_P, np.cumsum(np.bincount(row_P))[:-1])

  def __len__(self) -> int:
    return len(self.members)

  def __getitem__(self, index: int) -> dict:
    row, start = self.padding(), 0
    for place, number in enumerate(self.members[index]):
      ids = self._ids[number]
      row["tokens_T"][start : start + len(ids)] = ids
      row["segments_T"][start : start + len(ids)] = place + 1
      row["label_P"][place] = self._labels[number]
      row["weights_P"][place] = 1
      start += len(ids)
    return row

  def padding(self) -> dict:
    num = max(1, self._seq // LEAST)
    return _empty(self._seq, self._pad) | {
      "label_P": np.zeros(num, np.int32),
      "weights_P": np.zeros(num, np.float32),
    }


def labelled(texts, labels, tokenizer, *, seq: int, packed=False) -> Rows:
  """Returns the rows of texts and their classes, whole numbers from 0.

  A text gets what the tokenizer puts around one ([CLS] and [SEP]); one of more than
  `seq` tokens is cut, and keeps its last token. With `packed`, as many texts as fit
  share a row, in place of padding. Raises Mistake for another number of labels than
  texts.

    rows = labelled(["good", "bad"], [1, 0], tokenizer, seq=32)
  """
  ids = [tokenizer.prompt(text) for text in texts]
  ids = [x if len(x) <= seq else np.append(x[: seq - 1], x[-1]) for x in ids]
  cls = PackedLabels if packed else Labelled
  return cls(ids, list(labels), seq=seq, pad=pad_id(tokenizer))


def _check(ids, labels):
  if len(ids) != len(labels) or not len(ids):
    raise Mistake(
      f"{len(ids)} texts and {len(labels)} labels; wanted as many, and one at least"
    )


def _empty(seq: int, pad: int) -> dict:
  return {
    "tokens_T": np.full(seq, pad, np.int32),
    "segments_T": np.zeros(seq, np.int32),
  }
