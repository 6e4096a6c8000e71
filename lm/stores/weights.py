"""Quantised parameters of a run's folder: weights.json, and the arrays it stands for.

  {"embed/table": {"kind": "int8", "letters": "VD", "summed": "D"}}

Each of them is in the checkpoint as its own arrays, below the path of the parameter:
embed/table/values, embed/table/scales.
"""

import jax
import numpy as np

from lm import trees
from lm.nn import quantised


def described(params) -> dict:
  """Returns what weights.json says of a tree of parameters; {} where all are arrays."""
  leaves = trees.by_path(params, is_leaf=quantised.is_quantised)
  return {
    path: {
      "kind": quantised.name_of(w),
      "letters": w.place.letters,
      "summed": w.place.summed,
    }
    for path, w in leaves.items()
    if quantised.is_quantised(w)
  }


def wanted(about: dict, leaves: dict) -> dict:
  """Returns {path: shapes} to read, with those of a Quantised where the folder has one.

  `about` is what weights.json says, `leaves` are a ShapeDtypeStruct for each path; each
  array of a Quantised goes to the mesh of its leaf.
  """

  def shapes(path: str, leaf):
    if path not in about:
      return leaf
    entry = about[path]
    sides = entry["letters"], entry["summed"]
    weight = quantised.abstract(entry["kind"], *sides, leaf.shape)
    mesh = getattr(leaf.sharding, "mesh", None)
    return weight if mesh is None else quantised.placed(weight, mesh)

  return {path: shapes(path, leaf) for path, leaf in leaves.items()}


def differs(params, shapes) -> str:
  """Returns one line on the first parameter that is not as in `shapes`, else "".

  A Quantised fits where its array would.
  """
  own = trees.by_path(shapes)

  def shape(path: str, w):
    if not quantised.is_quantised(w):
      return w
    dtype = own[path].dtype if path in own else np.float32
    return jax.ShapeDtypeStruct(w.shape, dtype)

  leaves = trees.by_path(params, is_leaf=quantised.is_quantised)
  have = {path: shape(path, w) for path, w in leaves.items()}
  have, want = (trees.describe({"params": tree}) for tree in (have, own))
  return trees.differs(have, want)
