"""Whole heads, channels and layers taken out: a smaller model of the same family."""

import jax.numpy as jnp
import numpy as np

from lm import models, trees
from lm.compress import _statistics
from lm.errors import Mistake
from lm.stores.store import abstract, fields_of


def outputs(subject, letters: str) -> dict:
  """Returns {path: energy} of the matrices with these letters that are last in a block.

  The energy of each input of a matrix, of shape (L, D), is its x^2 summed over the
  texts, times the squares of its weights: its part of the output, without signs.
  Raises Mistake where there are none.
  """
  squares = _statistics.collect(subject, "squares")
  energies = {}
  for path, place in subject.places.items():
    array = subject.leaves[path]
    if place.letters == letters and path in squares and array.ndim > len(letters):
      w = place.ordered(array)
      energy = jnp.sum(w**2, axis=1).reshape(len(w), -1) * squares[path]
      energies[path] = np.asarray(energy)
  if not energies:
    family = models.fields(subject.model)["family"]
    raise Mistake(f"family {family!r} has no matrices {letters} that this would prune")
  return energies


def largest(scores_LF, count: int):
  """Returns the indices of the `count` largest of each layer, in order."""
  return np.sort(np.argsort(-scores_LF, axis=1, kind="stable")[:, :count], axis=1)


def taken(subject, chosen: dict, **fields):
  """Returns (model, params): a model with other fields, and what was chosen of it.

  `chosen` is {folder: {letter: indices_LF}} of what stays of the dimensions of each
  letter, for the parameters of a folder; the indices of L alone are those of layers.
  Raises Mistake when that is no model of the family.
  """
  dims, leaves = trees.by_path(abstract(subject.model)[1]), dict(subject.leaves)
  for folder, indices in chosen.items():
    for path in leaves:
      if path.startswith(f"{folder}/"):
        leaves[path] = _taken(leaves[path], dims[path], indices)
  model = models.build(**(fields_of(subject.model) | {"preset": ""} | fields))
  params = trees.nested(leaves)
  want = trees.shapes_of(abstract(model)[0])
  for path, shape in trees.shapes_of(params).items():
    if want.get(path) != shape:
      raise Mistake(
        f"{path} would be {shape}, and a model with {_listed(fields)} has "
        f"{want.get(path)}: this family is not pruned so"
      )
  return model, params


def _taken(array, letters: str, indices: dict):
  """Returns the part of a stacked array that indices of its letters name."""
  for letter, index in indices.items():
    if letter == "L":
      array = array[np.asarray(index)]
    elif letter in letters:
      axis = letters.index(letter)
      shape = [1] * array.ndim
      shape[0], shape[axis] = index.shape
      array = jnp.take_along_axis(array, jnp.asarray(index).reshape(shape), axis=axis)
  return array


def _listed(fields: dict) -> str:
  return ", ".join(f"{name}={value}" for name, value in fields.items())
