"""Adaptation: a stored model of which a part is trained, or small matrices beside it.

  cfg.adapt = dict(name="lora", rank=8, where=".*attention/[qv]")

A way to adapt is a file here with a frozen dataclass `Adaptation` that extends the one
below; its fields are the values of the config's group `adapt`. Adding the file is
registering it.

The parameters that are not trained are frozen: they are in `TrainState.given`, have no
gradient and no optimiser state, and are read again from `init.path` when a run goes on.
A run's checkpoints hold what is trained alone; `lm.load` of the run returns parameters
like those of any other model, with the adapters merged.
"""

import abc
import dataclasses
import re
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from lm import letters, lookup, trees
from lm.errors import Mistake, suggestion
from lm.nn import equations, quantised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation(abc.ABC):
  """The contract of a way to adapt; parameters are dicts by path."""

  train: tuple = ()  # regular expressions of parameters that are trained as they are

  def begun(self, tokenizer):
    """Returns the tokenizer of a run, from that of the model that it adapts."""
    return tokenizer

  def fitted(self, tokenizer, *, seq: int, task: dict, teacher="") -> "Adaptation":
    """Returns the adaptation for a model's tokenizer, rows of `seq` and a task.

    `teacher` is the path of another model that reads the rows. Raises Mistake where it
    does not go with them.
    """
    return self

  @abc.abstractmethod
  def added(self, weights: dict) -> dict:
    """Returns {path: function of a key that draws boxed arrays}, which are trained.

    `weights` are the model's frozen `Weight`s by path. The path of what is added begins
    with that of its weight.
    """

  def joined(self, weight: "Weight", base, arrays: dict):
    """Returns what products read in place of a frozen array, `base`.

    `arrays` are those that were added to this weight, by the last name of their path.
    """
    raise NotImplementedError(f"{type(self)} adds nothing to {weight.path}")

  def merged(self, weight: "Weight", base, arrays: dict):
    """Returns the array that does the same as `joined`, of the shape of `base`.

    Where there is none it is a `lm.nn.linear.Weight`.
    """
    raise NotImplementedError(f"{type(self)} adds nothing to {weight.path}")

  def started(self, weight: "Weight", base, arrays: dict) -> dict:
    """Returns the arrays of a new run, where they depend on the values of `base`."""
    return arrays


class Weight(NamedTuple):
  """A parameter of a model: its place, its letters ("LDNH") and how it is read."""

  path: str
  letters: str
  shape: tuple
  # The equations of products that read it, "BTD,DNH->BTNH", without a letter L for
  # layers; empty for a parameter that is read otherwise, too (tables, norms, biases).
  equations: frozenset


class Given(NamedTuple):
  """The arrays that nobody trains, of an adapted model and its objective."""

  frozen: Any  # parameters by path
  objective: Any  # what the objective asks for


def make(options: dict) -> Adaptation:
  """Returns the Adaptation that {"name": "lora", "rank": 8} describes."""
  options = dict(options)
  name = options.pop("name")
  cls = kind(name)
  names = [field.name for field in dataclasses.fields(cls)]
  for option in options:
    if option not in names:
      hint = suggestion(option, names, otherwise=f"it has {', '.join(names)}")
      raise Mistake(f"adapt {name!r} has no value {option!r}; {hint}")
  return cls(**options)


def kind(name: str):
  """Returns the class `Adaptation` of a name; Mistake lists the names."""
  return lookup.find(__name__, name).Adaptation


class Adapter:
  """An Adaptation of one model: what is trained, and what is frozen.

  `model` is any linen module; `fresh` are regular expressions of parameters that no
  store has, and that are trained for this reason. `init(key)` draws the trained
  parameters, boxed. `frozen` are the shapes of the others by path.
  """

  def __init__(self, adaptation: Adaptation, model, *, fresh=()):
    self.adaptation, self._model = adaptation, model
    self.shapes, self.letters = letters.abstract(model, equations.example(model))
    shapes, names = trees.by_path(self.shapes), trees.by_path(self.letters)
    self.shapes_by_path = shapes
    trained = _trained(adaptation, fresh, shapes)
    self.frozen = {path: x for path, x in shapes.items() if path not in trained}
    equations_of = equations.of(model, self.shapes)
    self.weights = {
      path: Weight(path, names[path], x.shape, equations_of.get(path, frozenset()))
      for path, x in self.frozen.items()
    }
    self._trained, self._added = trained, adaptation.added(self.weights)
    if not self._trained and not self._added:
      raise Mistake("adapt leaves nothing to train; name parameters in adapt.train")

  def init(self, key):
    """Returns the trained parameters, boxed with their letters."""
    params = {path: draw(key) for path, draw in self._added.items()}
    if self._trained:
      drawn = self._model.init(key, equations.example(self._model))["params"]
      is_boxed = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
      leaves = trees.by_path(drawn, is_leaf=is_boxed)
      params |= {path: leaves[path] for path in self._trained}
    return trees.nested(params)

  def options(self, given, frozen=None) -> dict:
    """Returns the arguments of `lm.train.build` that train what is trained.

    `frozen` has the frozen parameters by path, and may have others; by default they
    are shapes. `given` is what the objective asks for.
    """
    frozen = self.frozen if frozen is None else {p: frozen[p] for p in self.frozen}
    narrow = {path: w for path, w in frozen.items() if quantised.is_quantised(w)}
    dims = {path: quantised.split_dims(w) for path, w in narrow.items()}
    pairs = ((self.shapes, self.letters), (narrow, dims))
    return dict(init=self.init, given=Given(frozen, given), frozen=pairs)

  def joined(self, params, frozen: dict):
    """Returns the tree that the model is applied to, for trained and frozen ones."""
    return trees.nested(self._each(params, frozen, self.adaptation.joined))

  def merged(self, params, frozen: dict):
    """Returns plain parameters of the model that do the same as `joined`."""
    return trees.nested(self._each(params, frozen, self.adaptation.merged))

  def started(self, params, stored: dict):
    """Returns the trained parameters of a new run, from drawn and from stored ones."""
    leaves, (trained, arrays_of) = trees.by_path(params), self._parts(params)
    values = trained | {path: stored[path] for path in trained if path in stored}
    for path, arrays in arrays_of.items():
      arrays = self.adaptation.started(self.weights[path], stored[path], arrays)
      values |= {f"{path}/{name}": array for name, array in arrays.items()}
    placed = {p: jax.device_put(values[p], leaves[p].sharding) for p in leaves}
    return trees.nested(placed)

  def objective(self, objective):
    """Returns an objective of the trained parameters, whose `given` is a Given."""

    def adapted(apply, params, batch, key, *, given, train=True):
      whole = self.joined(params, given.frozen)
      inner = given.objective
      return objective(apply, whole, batch, key, given=inner, train=train)

    return adapted

  def _each(self, params, frozen: dict, function) -> dict:
    trained, arrays_of = self._parts(params)
    weights = {
      path: function(self.weights[path], base, arrays_of[path])
      if path in arrays_of
      else base
      for path, base in frozen.items()
    }
    return {path: (trained | weights)[path] for path in self.shapes_by_path}

  def _parts(self, params) -> tuple[dict, dict]:
    """Returns (parameters trained as they are, {path of a weight: its arrays})."""
    leaves, arrays_of = trees.by_path(params), {}
    for path in self._added:
      weight, _, name = path.rpartition("/")
      arrays_of.setdefault(weight, {})[name] = leaves.pop(path)
    return leaves, arrays_of


def _trained(adaptation, fresh, shapes: dict) -> set[str]:
  """Returns the paths of the parameters that are trained as they are."""
  patterns = adaptation.train
  patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
  trained = set()
  for pattern in (*patterns, *fresh):
    matching = {path for path in shapes if re.fullmatch(pattern, path)}
    if not matching:
      raise Mistake(
        f"adapt.train: {pattern!r} names no parameter of {', '.join(shapes)}"
      )
    trained |= matching
  return trained
