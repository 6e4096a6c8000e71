"""Guesses of a text's next tokens, which the model then checks all at once.

Where a guess is right, one pass of the model writes several tokens; where it is wrong
nothing changes but the time (arXiv:2211.17192). A guess comes from the text itself, or
from a smaller model.
"""

import functools

import jax
import numpy as np

from lm.errors import Mistake
from lm.generate import decode, slots
from lm.serve.reading import Reading
from lm.serve.rows import Row, empty, one_row

SIZES = (3, 2)  # of the n-grams that are looked up, the longest first


class Repeats:
  """Guesses that a text goes on as it did before, after the same last tokens.

  Prompt lookup: texts that quote their prompt (summaries, code, answers) repeat much.
  """

  def __init__(self, width: int):
    self.width, self._texts = width, {}

  def admit(self, number: int, row: Row):
    """Begins the text of a row with its prompt."""
    self._texts[number] = _Text(row.request.ids)

  def guess(self, rows: list) -> np.ndarray:
    """Returns guesses_BQ for rows, of which some are None; -1 is none."""
    guesses_BQ = np.full((len(rows), self.width), -1, np.int32)
    for number, row in enumerate(rows):
      if row is not None:
        ids = self._texts[number].next(row.ids, self.width)
        guesses_BQ[number, : len(ids)] = ids
    return guesses_BQ


class _Text:
  """A text, and where in it each n-gram ended last but at its very end."""

  def __init__(self, prompt):
    self._ids, self._prompt, self._ends = [], list(prompt), {}

  def next(self, written: list, width: int) -> list:
    """Returns what followed the same tokens before; `written` are the text's so far."""
    ids = self._ids
    for id in [*self._prompt, *written][len(ids) :]:
      for size in SIZES:
        if len(ids) >= size:
          self._ends[tuple(ids[-size:])] = len(ids)
      ids.append(id)
    for size in SIZES:
      if end := self._ends.get(tuple(ids[-size:])):
        return ids[end : end + width]
    return []


class Draft:
  """Guesses of a smaller model with the same tokens, greedy."""

  def __init__(self, model, params, *, width: int, rows: int, size: int, chunk: int):
    if not model.traits.decodes or model.traits.source:
      raise Mistake("a draft model continues a text: wanted a decoder")
    self.width, self._chunk, self._size = width, chunk, size
    self._model = model
    self._params = decode.prepare_params(model, params)
    sizes = dict(size=size, dtype="float32")
    self._slots = empty(model, self._params, rows, columns=width + 1, **sizes)
    self._bias_V = np.zeros(self._slots.bias_BV.shape[1], np.float32)
    if not self._slots.cache.rewinds:
      raise Mistake("a draft model has to take tokens back; wanted one with attention")

  def admit(self, number: int, row: Row):
    """Reads the prompt of a row."""
    cache = self._model.init_cache(1, self._size)
    options = dict(cache=cache, chunk=self._chunk, prefixes=None)
    reading = Reading(self._model, self._params, row.request, **options)
    while not reading.is_over:
      reading.step()
    one = one_row(reading, self._bias_V, columns=self.width + 1, is_greedy=True)
    self._slots = slots.admit(self._slots, number, one)

  def guess(self, rows: list) -> np.ndarray:
    """Returns guesses_BQ for rows, of which some are None; -1 is none."""
    is_live_B = np.array([row is not None for row in rows])
    lengths_B = np.array([len(row.ids) if row else 0 for row in rows], np.int32)
    last_B = np.array([row.last if row else 0 for row in rows], np.int32)
    self._slots = _resumed(self._slots, is_live_B, lengths_B, last_B)
    # One more than is wanted: the last guess has to be read, in case it is right.
    inputs = (self._model, self._params, self._slots, self.width + 1)
    self._slots = slots.advance(*inputs)
    ids_BT = slots.read(self._slots).ids_BT[:, : self.width]
    return np.where(is_live_B[:, None], ids_BT, -1)


@functools.partial(jax.jit, donate_argnames="s")
def _resumed(s: slots.Slots, is_live_B, lengths_B, last_B) -> slots.Slots:
  """Returns the slots, with texts of so many tokens of which these are the last."""
  read_B = s.prompt_lengths_B - 1 + lengths_B
  return s.replace(
    cache=s.cache.ended(read_B),
    lengths_B=lengths_B,
    starts_B=lengths_B,
    last_B=last_B,
    limits_B=lengths_B + s.ids_BT.shape[1] + 1,
    done_B=~is_live_B,
  )
