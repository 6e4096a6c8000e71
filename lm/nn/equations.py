"""The equations in which a model reads its weights, found by tracing it once."""

import jax
import jax.numpy as jnp
from flax import struct

from lm import trees
from lm.nn import linear

TAKEN = "taken"  # in place of an equation: rows of it were taken
GROUPED = "grouped"  # groups of rows were multiplied with it
ELSEWHERE = "elsewhere"  # it was read in any other way
NO_EQUATION = {TAKEN, GROUPED, ELSEWHERE}


def example(model):
  """Returns tokens_BT to trace a model with."""
  return jnp.zeros((1, 8), jnp.int32)


def of(model, shapes) -> dict[str, frozenset]:
  """Returns {path: equations} of the weights that only `lm.nn.linear.dot` reads.

  The letter L of stacked layers is not in them.
  """
  return {
    path: names
    for path, names in readings(model, shapes).items()
    if not names & NO_EQUATION
  }


def readings(model, shapes) -> dict[str, frozenset]:
  """Returns {path: equations} of all weights that are read, and TAKEN and the like."""
  equations = {}
  reader = Reader(equations)
  leaves = {
    path: Probe(leaf, path, reader) if len(leaf.shape) > 1 else leaf
    for path, leaf in trees.by_path(shapes).items()
  }
  tokens_BT = example(model)
  inputs = {"source_BS": tokens_BT} if model.traits.source else {}

  def trace(params):
    return model.apply({"params": params}, tokens_BT, **inputs)

  jax.eval_shape(trace, trees.nested(leaves))
  return {path: frozenset(names) for path, names in equations.items()}


class Reader:
  """A record of equations by path, hashed by identity: it is static in a Probe."""

  def __init__(self, equations: dict):
    self._equations = equations

  def note(self, path: str, equation: str):
    """Adds an equation to those of a path."""
    self._equations.setdefault(path, set()).add(equation)


@struct.dataclass
class Probe(linear.Weight):
  """A weight that notes how it is read."""

  value: jax.Array
  path: str = struct.field(pytree_node=False)
  reader: Reader = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    return self.value.shape

  def dot(self, equation: str, x, dtype):
    self.reader.note(self.path, equation)
    return linear.dot(equation, x, self.value, dtype)

  def take(self, ids):
    self.reader.note(self.path, TAKEN)
    return linear.take(self.value, ids)

  def ragged(self, x_RD, sizes_E, dtype):
    self.reader.note(self.path, GROUPED)
    return linear.ragged(x_RD, self.value, sizes_E, dtype)

  def __jax_array__(self):
    self.reader.note(self.path, ELSEWHERE)
    return self.value

  def __getattr__(self, name):
    return getattr(self.__jax_array__(), name)

  def __getitem__(self, index):
    return self.__jax_array__()[index]

  def __len__(self):
    return len(self.value)
