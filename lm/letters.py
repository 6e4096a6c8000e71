"""The alphabet: one letter names a dimension in tensors, einsums, weights and meshes.

B batch, T query position, S key position, D width, N heads, K kv heads, G = N/K queries
per kv head, H head size, F feed-forward, V vocabulary, L layers, E experts, C classes:
the letters of the scaling book, so FLOP formulas read as published; and I gates of a
recurrent cell (whose F are its units), M state size of a head. `x_BTD` has the
shape (B, T, D), is contracted as "BTD,DF->BTF" and is sharded by `spec("BTD")`.
"""

import math

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm import trees
from lm.errors import Mistake

AXES = ("data", "fsdp", "tensor", "context", "expert", "stage")

# Dimension -> mesh axis (or axes). The order settles clashes: a mesh axis is used once
# per array, so in "VD" the vocabulary takes `tensor` and the width what is left.
RULES = (
  ("B", ("data", "fsdp")),
  ("T", ("context",)),
  ("V", ("tensor",)),
  ("F", ("tensor",)),
  ("N", ("tensor",)),
  ("K", ("tensor",)),
  ("E", ("expert",)),
  ("D", ("fsdp",)),
)


def make_mesh(devices=None, **sizes):
  """The mesh with all six axes; `sizes` gives their lengths, at most one of them -1.

  Raises Mistake when the sizes do not multiply to the number of devices, and for
  stages, which nothing is split over yet: every one would compute the same.
  """
  unknown = sorted(set(sizes) - set(AXES))
  if unknown:
    raise Mistake(f"unknown mesh axis {unknown[0]!r}; the axes are {', '.join(AXES)}")
  devices = jax.devices() if devices is None else devices
  shape = [sizes.get(axis, 1) for axis in AXES]
  free = [i for i, n in enumerate(shape) if n == -1]
  known = math.prod(n for n in shape if n != -1)
  if len(free) == 1 and known > 0 and len(devices) % known == 0:
    shape[free[0]] = len(devices) // known
  if any(n < 1 for n in shape) or math.prod(shape) != len(devices):
    asked = ", ".join(f"{axis}={sizes.get(axis, 1)}" for axis in AXES)
    raise Mistake(
      f"mesh {asked} does not fit {len(devices)} devices; make the product equal to it "
      "or give one axis -1 to take what is left"
    )
  if (stages := shape[AXES.index("stage")]) > 1:
    raise Mistake(
      f"mesh stage={stages}: there are no pipeline stages yet; use data, fsdp or tensor"
    )
  return jax.make_mesh(
    tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )


def spec(dims: str) -> PartitionSpec:
  """The PartitionSpec of an array with these dimensions, by RULES.

  Dimensions without a rule are replicated, and so is all of rank 1 (stacked over layers
  or not): sharding a norm's scale saves nothing and costs a small all-gather.
  """
  if len(dims.replace("L", "")) < 2:
    return PartitionSpec()
  return _by_rules(dims)


def _by_rules(dims: str) -> PartitionSpec:
  taken, where = set(), {}
  for letter, axes in RULES:
    if letter in dims and not taken & set(axes):
      where[letter] = axes if len(axes) > 1 else axes[0]
      taken |= set(axes)
  return PartitionSpec(*(where.get(letter) for letter in dims))


def sharding(mesh: Mesh, dims: str) -> NamedSharding:
  return NamedSharding(mesh, spec(dims))


def suffix(name: str) -> str:
  """The dimensions a name ends in: "BT" for "tokens_BT"; "" when it has none."""
  tail = name.rpartition("_")[2]
  return tail if tail.isalpha() and tail.isupper() else ""


def batch_shardings(mesh: Mesh, batch) -> dict:
  """The sharding of every array of a batch, read off its key.

  Unlike weights, arrays of rank 1 (label_B) are split too.
  """
  return {key: NamedSharding(mesh, _by_rules(suffix(key))) for key in batch}


def constrain(x, dims: str):
  """`x`, held to the sharding of its dimensions on the mesh of `jax.set_mesh`."""
  return constrain_to(x, spec(dims))


def constrain_to(x, where: PartitionSpec):
  """`x`, held to a sharding that the rules would not give; see `layers.Embedding`."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, where)


def weight(module: nn.Module, name: str, dims: str, shape, init):
  """A float32 parameter of `module`, born with the letters of its dimensions."""
  boxed = nn.with_logical_partitioning(init, tuple(dims))
  return module.param(name, boxed, tuple(shape), np.float32)


def _boxed(leaf) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def unbox(tree):
  """The plain arrays (or shapes) of a tree of parameters born by `weight`.

  Not `nn.unbox`: that one applies a sharding constraint, which a tree of shapes and a
  computation without a mesh cannot take.
  """
  return jax.tree.map(lambda p: p.value if _boxed(p) else p, tree, is_leaf=_boxed)


def letters_of(tree):
  """The dimensions of every parameter of a boxed tree, as strings like "LDNH"."""
  return jax.tree.map(lambda p: "".join(p.names), tree, is_leaf=_boxed)


def abstract_of(init):
  """Returns (shapes, letters) of the parameters that init(key) creates, boxed."""
  boxed = jax.eval_shape(init, jax.random.key(0))
  return unbox(boxed), letters_of(boxed)


def abstract(model: nn.Module, *args):
  """Returns (shapes, letters) of a model's parameters; computes nothing."""
  return abstract_of(lambda key: model.init(key, *args)["params"])


def state_dims(state, params, dims):
  """The dimensions of every leaf of `state`, a tree that holds copies of `params`.

  Optimisers keep moments shaped like the parameters, at paths that end in theirs; those
  leaves are sharded alike. Of any other leaf a name tells them (h_BLD, what a recurrent
  model carries on); without one (counts, factored moments) it gets "".
  """
  known = {}
  for (path, leaf), name in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(dims), strict=True
  ):
    known[trees.path_name(path)] = (leaf.shape, name)

  def find(path, leaf):
    parts = trees.path_name(path).split("/")
    for start in range(len(parts)):
      shape, name = known.get("/".join(parts[start:]), (None, ""))
      if shape == leaf.shape:
        return name
    return suffix(parts[-1]) if len(suffix(parts[-1])) == leaf.ndim else ""

  return jax.tree_util.tree_map_with_path(find, state)


def shardings(mesh: Mesh, dims, tree):
  """NamedShardings for `tree`, whose dimensions are `dims`; checks that they divide.

  Raises Mistake naming the first array that a mesh axis cannot split evenly, and
  when the mesh splits experts and there are none.
  """
  groups = mesh.shape["expert"]
  if groups > 1 and not any("E" in name for name in jax.tree.leaves(dims)):
    raise Mistake(
      f"mesh expert={groups} splits experts, and the model has none; use data, fsdp or "
      "tensor"
    )

  def one(path, name, leaf):
    where = sharding(mesh, name)
    for letter, size, axes in zip(name, leaf.shape, where.spec, strict=False):
      axes = (axes,) if isinstance(axes, str) else axes or ()
      parts = math.prod(mesh.shape[axis] for axis in axes)
      if size % parts:
        raise Mistake(
          f"{trees.path_name(path)} has {letter}={size}, which mesh "
          f"{'*'.join(axes)}={parts} does not divide; choose a mesh axis that divides "
          f"{size}"
        )
    return where

  return jax.tree_util.tree_map_with_path(one, dims, tree)
