"""Corruptions: rows of text with something taken out, and that as the targets.

A corruption is a module here with a class `Corruption`; the module's name is the value
of `name` in `data.corrupt`, the other values are the fields of the class. Adding the
file is registering it. What is random is drawn from a seed and the index of a row, or
for held-out text from that index alone: the same holes whenever a row is read. The
targets are the text of the row, so that every token of the corpus is in one row.
"""

import dataclasses
import difflib
import math
import numbers
from typing import ClassVar, Protocol

import numpy as np

from lm import lookup
from lm.data.rows import ArrayShape, Rows
from lm.errors import Mistake

MASK, CLS, SEP = "[MASK]", "[CLS]", "[SEP]"
ROBERTA_MASK = "<mask>"
LANES = 8  # lengths are rounded up to a multiple, so that a mesh can divide them


class Corrupt(Protocol):
  """A corruption for one tokenizer and one length of row."""

  def __call__(self, row: dict, draw, *, rows: Rows, view: int | None = None) -> dict:
    """Returns the corrupted row.

    `draw` is a numpy Generator, `rows` are all uncorrupted rows. In training `view` is
    None; held-out rows are read once for each of `views`.
    """
    ...


class Corruption(Protocol):
  """The class that a module here defines: a frozen dataclass of keyword options."""

  # Those that train on such rows, beside the ones that name it (lm.objectives).
  objectives: ClassVar[tuple[str, ...]] = ()
  specials: ClassVar[tuple[str, ...]] = ()  # tokens added behind the vocabulary
  takes: ClassVar[tuple[str, ...]] = ("text",)  # what its rows may hold (rows.HOLDS)
  views: int = 1  # how many times a held-out row is read, each with other targets

  def shapes(self, row: dict[str, ArrayShape], seq: int) -> dict[str, ArrayShape]:
    """The arrays of a corrupted row, from those of a row; Mistake if `seq` is too
    short or too long."""
    ...

  def bound(self, tokenizer, seq: int) -> Corrupt:
    """The corruption of rows of `seq` tokens; `tokenizer` is an `extended` one."""
    ...


def make(options: dict) -> Corruption | None:
  """Returns the corruption that {"name": "masked", "rate": 0.2} describes.

  None for {} or an empty name: the text stays as it is. Raises Mistake for a name or an
  option that does not exist.
  """
  options = dict(options)
  name = options.pop("name", "")
  if not name:
    if options:
      raise Mistake(f"data.corrupt={options} has no name; wanted one of {_names()}")
    return None
  if name not in _names():
    raise Mistake(f"no corruption {name!r}; found: {', '.join(_names())}")
  cls = lookup.find(__name__, name).Corruption
  fields = [field.name for field in dataclasses.fields(cls)]
  for option in options:
    if option not in fields:
      near = difflib.get_close_matches(option, fields, n=1)
      hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(fields)}"
      raise Mistake(f"corruption {name!r} has no option {option!r}; {hint}")
  return cls(**options)


def serving(objective: str) -> list[str]:
  """Returns the names of the corruptions that name an objective in `objectives`."""
  return [
    name
    for name in _names()
    if objective in lookup.find(__name__, name).Corruption.objectives
  ]


def _names() -> list[str]:
  return lookup.names(__name__)


class Redrawn(Rows):
  """Training rows, corrupted anew at every `drawn`."""

  def __init__(self, rows: Rows, corrupt: Corrupt):
    self._rows, self._corrupt = rows, corrupt

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict:
    return self.drawn(index, (0, int(index)))

  def drawn(self, index: int, seed: tuple[int, ...]) -> dict:
    row, draw = self._rows.drawn(index, seed), np.random.default_rng(seed)
    return self._corrupt(row, draw, rows=self._rows)

  def padding(self) -> dict:
    return _padding(self._rows, self._corrupt)

  def groups(self) -> list[tuple[int, float]]:
    return self._rows.groups()


class Fixed(Rows):
  """Held-out rows: each of `views` times, corrupted the same way at every reading."""

  def __init__(self, rows: Rows, corrupt: Corrupt, views: int):
    self._rows, self._corrupt, self._views = rows, corrupt, views

  def __len__(self) -> int:
    return len(self._rows) * self._views

  def __getitem__(self, index: int) -> dict:
    number, view = divmod(int(index), self._views)
    draw = np.random.default_rng([0, number])
    return self._corrupt(self._rows[number], draw, rows=self._rows, view=view)

  def padding(self) -> dict:
    return _padding(self._rows, self._corrupt)


def _padding(rows: Rows, corrupt: Corrupt) -> dict:
  return corrupt(rows.padding(), np.random.default_rng(0), rows=rows, view=0)


def extended(tokenizer, corruption: Corruption):
  """The tokenizer with the special tokens of a corruption after its own vocabulary.

  A tokenizer with RoBERTa's <mask> gets no [MASK].
  """
  has_mask = ROBERTA_MASK in tokenizer.special
  return tokenizer.extended(
    [name for name in corruption.specials if name != MASK or not has_mask]
  )


def mask_id(tokenizer) -> int:
  """The id that hides a token: RoBERTa's <mask> where there is one, else [MASK]."""
  return tokenizer.id(ROBERTA_MASK if ROBERTA_MASK in tokenizer.special else MASK)


def start_id(tokenizer) -> int:
  """The id that a decoder reads before its first token.

  It is the one that the model's files name, else pad (as T5), bos or eos.
  """
  ids = [tokenizer.decoding.get("start"), tokenizer.pad, tokenizer.bos, tokenizer.eos]
  ids = [id for id in ids if id is not None]
  if not ids:
    raise Mistake("a decoder starts from pad, bos or eos; the tokenizer has none")
  return ids[0]


def text_of(row: dict) -> np.ndarray:
  """The tokens of a row, without its padding."""
  return row["targets_T"][row["weights_T"] > 0]


def check_number(name: str, value, *, above=-math.inf, least=-math.inf, below=math.inf):
  """Raises Mistake unless an option is a number within these limits."""
  limits = {"more than": above, "at least": least, "less than": below}
  shown = [f"{word} {x:g}" for word, x in limits.items() if math.isfinite(x)]
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not (above < value < below and least <= value):
    raise Mistake(f"data.corrupt.{name}={value!r}; wanted a number {', '.join(shown)}")


def rounded(size: int) -> int:
  """`size`, rounded up to a multiple of LANES."""
  return -(-size // LANES) * LANES


def fill(parts: dict) -> dict[str, np.ndarray]:
  """Arrays of a row from {key: (values, size)}, zero-padded on the right to `size`.

  weights_T is float32, all others are int32.
  """
  row = {}
  for key, (values, size) in parts.items():
    row[key] = np.zeros(size, np.float32 if key == "weights_T" else np.int32)
    row[key][: len(values)] = values
  return row
