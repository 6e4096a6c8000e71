"""Compression: the parameters of a stored model in fewer bytes, or fewer parameters.

  method = compress.make("int8")                     # or "heads-25": a quarter of them
  model, params = method.apply(compress.Subject(model, params))
  lm.save("runs/small", model, params, tokenizer)

A method is a file here with a frozen dataclass `Method` that extends the one below.
Adding the file is registering it. A number behind its name is a percentage, of what a
method removes.

Compressed are the matrices that products read, and tables of tokens: norms, biases,
positions and the routers of experts stay as they are.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from lm import lookup, trees
from lm.errors import Mistake
from lm.nn import equations, quantised
from lm.nn.quantised import Place
from lm.stores.store import abstract

# Letters of tables that are small, or in which a position or a distance has its number.
KEPT_ROWS = "TUC"
ROUTER = "router"  # decides between close experts, in float32


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
  """The contract of a method."""

  reads_text: ClassVar[bool] = False  # it looks at what the model computes of texts

  @abc.abstractmethod
  def apply(self, subject: "Subject") -> tuple[Any, dict]:
    """Returns (model, params) of a compressed model."""


@dataclasses.dataclass(frozen=True)
class Pruning(Method):
  """A method that removes a share."""

  percent: int = 50  # of what it removes

  def __post_init__(self):
    if not 0 < self.percent < 100:
      raise Mistake(f"{self.percent} % are to be removed; wanted 1 to 99")


@dataclasses.dataclass(frozen=True)
class Subject:
  """A model to compress, and texts that it reads where a method needs them."""

  model: Any
  params: dict
  batches: Callable | None = None  # () -> batches of rows, as a Loader gives them
  store: Any = None  # where the model came from, as `lm.stores.open` gives it

  @functools.cached_property
  def leaves(self) -> dict:
    """The parameters by path."""
    return trees.by_path(self.params, is_leaf=quantised.is_quantised)

  @functools.cached_property
  def places(self) -> dict[str, Place]:
    """The matrices that can be compressed, by path."""
    return places(self.model)

  @functools.cached_property
  def tables(self) -> set[str]:
    """The paths of tables of which rows are taken."""
    readings = equations.readings(self.model, abstract(self.model)[0])
    return {path for path, names in readings.items() if equations.TAKEN in names}

  def replaced(self, make: Callable) -> dict:
    """Returns the parameters with make(path, array, place) for each matrix."""
    leaves = dict(self.leaves)
    for path, place in self.places.items():
      leaves[path] = make(path, leaves[path], place)
    return trees.nested(leaves)

  def quantised(self, kind: str) -> dict:
    """Returns the parameters with matrices of a kind, each the nearest to its array."""
    make = jax.jit(quantised.kind(kind).of, static_argnames="place")
    return self.replaced(lambda path, array, place: make(array, place=place))


def make(name: str) -> Method:
  """Returns the method of a name, "int8" or "heads-25"; Mistake lists the names."""
  base, percent = lookup.numbered(name)
  if base not in lookup.names(__name__):
    base, percent = name, None
  cls = lookup.find(__name__, base).Method
  if percent is None:
    return cls()
  if not issubclass(cls, Pruning):
    raise Mistake(f"{base!r} removes nothing, so no share of it: {name!r}")
  return cls(percent)


def places(model) -> dict[str, Place]:
  """Returns the matrices of a model that can be compressed, by path."""
  shapes, letters = (trees.by_path(tree) for tree in abstract(model))
  readings = equations.readings(model, abstract(model)[0])
  result = {}
  for path, names in readings.items():
    dims = letters[path].replace("L", "")
    summed = {_summed(name, dims) for name in names - {equations.GROUPED}}
    is_kept = path.rpartition("/")[2] == ROUTER or dims[0] in KEPT_ROWS
    if len(summed) == 1 and "" not in summed and not is_kept:
      result[path] = Place.of(letters[path], summed.pop(), shapes[path].shape)
  return result


def _summed(reading: str, letters: str) -> str:
  """Returns the letters that a product sums over for each column, "" for none.

  A table of which rows are taken has a column for each row. Experts are columns too,
  also where a product adds them up.
  """
  if reading == equations.TAKEN:
    return letters[1:] if letters[0] == "V" else ""
  if reading == equations.ELSEWHERE:
    return ""
  xs, (ys, out) = reading.split(",")[0], reading.split(",")[1].split("->")
  named = zip(ys, letters, strict=True)
  return "".join(a for y, a in named if y in xs and y not in out and a != "E")


def num_bytes(params) -> int:
  """Returns the bytes of all arrays of a tree."""
  return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(params))
