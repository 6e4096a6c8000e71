"""Windows of a question and a long text: overlapping parts of the text, one a window.

As BERT reads them (Devlin et al. 2018, arXiv:1810.04805, section 4.2): each window has
the question and a part of the context, and one begins `stride` tokens behind the other.
"""

import dataclasses

import numpy as np

from lm.errors import Mistake

QUESTION = 64  # tokens of a question that are read


@dataclasses.dataclass(frozen=True)
class Window:
  """The ids of a window, and where its part of the context is in the text."""

  ids: np.ndarray
  types: np.ndarray
  first: int  # the place of the part's first token among the ids
  spans: np.ndarray  # [tokens of the part, 2]: characters of the context
  is_best: np.ndarray  # of each token: no other window has more around it

  def places(self, begin: int, end: int) -> tuple[int, int]:
    """Returns (start, end), the tokens of characters; (0, 0) if not all are here."""
    inside = np.flatnonzero((self.spans[:, 0] < end) & (self.spans[:, 1] > begin))
    is_whole = (
      len(inside)
      and self.spans[inside[0], 0] <= begin
      and self.spans[inside[-1], 1] >= end
    )
    if not is_whole:
      return 0, 0
    return self.first + int(inside[0]), self.first + int(inside[-1])


def windows(tokenizer, question: str, context: str, *, seq: int, stride: int):
  """Returns the Windows of `seq` ids at most; one begins `stride` tokens later.

  A question of more than QUESTION tokens is cut. A tokenizer that puts nothing between
  two texts, a learnt one, gets its end of a text there. Raises Mistake when the
  question leaves no room.
  """
  if not question.strip() or not context.strip():
    raise Mistake("a question or its context is empty; wanted both, one behind another")
  encoding = tokenizer.encoding(question, context)
  ids = np.array(encoding.ids, np.int32)
  types = np.array(encoding.type_ids, np.int32)
  part = np.array([-1 if x is None else x for x in encoding.sequence_ids])
  own = np.flatnonzero(part == 1)
  before = np.arange(own[0] if len(own) else len(ids))
  cut = before[part[before] == 0][QUESTION:]
  before = before[~np.isin(before, cut)]
  after = np.arange(own[-1] + 1, len(ids)) if len(own) else before[:0]
  middle = [] if -1 in part[before][np.argmax(part[before] == 0) :] else [tokenizer.eos]
  room = seq - len(before) - len(middle) - len(after)
  if room < 1 or not len(own):
    raise Mistake(
      f"seq={seq} has no room for a context behind the question {question[:40]!r}; "
      "wanted a larger seq"
    )
  step, starts = min(stride, room), [0]
  while starts[-1] + room < len(own):
    starts.append(starts[-1] + step)
  spans = np.array(encoding.offsets)
  parts = [np.arange(start, min(start + room, len(own))) for start in starts]
  best = _best(parts, len(own))
  middle_ids = np.array(middle, np.int32)
  return [
    Window(
      np.concatenate([ids[before], middle_ids, ids[own[inner]], ids[after]]),
      np.concatenate([types[before], 0 * middle_ids, types[own[inner]], types[after]]),
      len(before) + len(middle),
      spans[own[inner]],
      best[inner] == number,
    )
    for number, inner in enumerate(parts)
  ]


def _best(parts, total: int) -> np.ndarray:
  """Returns the number of the window in which each token has the most around it."""
  scores = np.full((len(parts), total), -1.0)
  for number, inner in enumerate(parts):
    left, right = inner - inner[0], inner[-1] - inner
    scores[number, inner] = np.minimum(left, right) + 0.01 * len(inner)
  return np.argmax(scores, axis=0)
