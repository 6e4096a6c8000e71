"""The slots of an engine, and the guesses that fill them faster."""

import numpy as np

from lm.errors import Mistake
from lm.generate import decode, slots
from lm.generate.slots import Drawn
from lm.serve.guesses import Draft, Repeats
from lm.serve.reading import Reading
from lm.serve.rows import Row, empty, one_row
from lm.serve.settings import Settings


class Batch:
  """Rows of one model, each a text or free.

  A row has room for `size` tokens. A `draft`, another (model, params) with the same
  tokens, makes the guesses of the settings; else they come from the text itself.
  """

  def __init__(self, model, params, settings: Settings, *, size: int, draft):
    rows, chunk, guess = settings.rows, settings.chunk, settings.guess
    self.rows: list[Row | None] = [None] * rows
    self._model, self._params = model, decode.prepare_params(model, params)
    self._chunk, self._dtype, self._guess = chunk, settings.cache, guess
    self._slots = None
    self._columns = size + guess + chunk  # guesses and chunks may go beyond a text
    self._spare = None  # an empty cache of one row
    self._guesses = None
    if guess and not model.init_cache(1, 1).rewinds:
      raise Mistake("a recurrent model cannot take guesses back; guess no tokens")
    if guess and draft:
      sizes = dict(rows=rows, size=self._columns, chunk=chunk)
      if draft[0].config.vocab != model.config.vocab:
        raise Mistake(
          f"the draft has {draft[0].config.vocab} tokens, the model "
          f"{model.config.vocab}; wanted one with the same tokenizer"
        )
      self._guesses = Draft(*draft, width=guess, **sizes)
    elif guess:
      self._guesses = Repeats(guess)

  def reading(self, request, prefixes) -> Reading:
    """Returns a prompt to be read, a chunk a step."""
    cache, self._spare = self._spare, None
    if cache is None:
      cache = self._model.init_cache(1, self._columns).as_dtype(self._dtype)
    options = dict(cache=cache, chunk=self._chunk, prefixes=prefixes)
    return Reading(self._model, self._params, request, **options)

  def admit(self, row: Row):
    """Puts a row whose prompt was read into a free place."""
    number = self.rows.index(None)
    if self._slots is None:
      sizes = dict(size=self._columns, columns=self._guess + 1, dtype=self._dtype)
      self._slots = empty(self._model, self._params, len(self.rows), **sizes)
    one = one_row(row.reading, row.bias_V(), columns=self._guess + 1)
    if self._guesses is not None:
      self._guesses.admit(number, row)
    self._slots = slots.admit(self._slots, number, one)
    if row.reading.cache.rewinds:
      self._spare = row.reading.cache.ended(np.zeros(1, np.int32))
    row.reading, self.rows[number] = None, row

  def write(self) -> Drawn:
    """Writes a token in each row, or more where guesses are right; returns them."""
    for number, row in enumerate(self.rows):
      if row is not None and row.request.constraint is not None:
        self._slots = slots.hold(self._slots, number, row.bias_V())
    inputs, guesses_BQ = (self._model, self._params, self._slots), self._ahead()
    if guesses_BQ is None:
      self._slots = slots.advance(*inputs, 1)
    else:
      self._slots = slots.check(*inputs, guesses_BQ)
    drawn = slots.read(self._slots)
    self._slots = slots.drained(self._slots)
    return drawn

  def retire(self, done_B):
    """Frees rows whose texts are not finished."""
    if any(done_B):
      self._slots = slots.retire(self._slots, done_B)
      for number in np.flatnonzero(done_B):
        self.rows[number] = None

  def reset(self):
    """Forgets all rows and what the device holds of them."""
    self.rows, self._slots = [None] * len(self.rows), None

  def _ahead(self):
    """Returns guesses_BQ, None where there are none."""
    if self._guesses is None:
      return None
    guesses_BQ = self._guesses.guess(self.rows)
    for number, row in enumerate(self.rows):
      if row is not None and row.request.constraint is not None:
        guesses_BQ[number] = -1  # what may come next depends on what came
    return guesses_BQ if np.any(guesses_BQ >= 0) else None
