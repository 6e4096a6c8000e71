"""The alphabet: one letter is one kind of dimension, everywhere.

The letters of an array are the suffix of its name, its subscripts in einsums, the
logical axes of a weight, and what RULES shards by: `x_BTD` has the shape (B, T, D), is
contracted as "BTD,DF->BTF" and is sharded by `spec("BTD")`. A 1 in a suffix is a
dimension of size 1 that broadcasts. The common letters are those of the scaling book
(jax-ml.github.io/scaling-book), so that FLOP formulas read as published.
"""

import math

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lm import trees
from lm.errors import Mistake

LETTERS = {
  "B": "batch: rows",
  "T": "position of a query",
  "S": "position of a key, or in a source",
  "D": "width of the residual stream",
  "N": "heads",
  "K": "heads of keys and values",
  "G": "members of a group of heads: queries per kv head, N / K; in Mamba-2 N / J",
  "H": "head size",
  "F": "feed-forward size, or other features inside a layer: units of a cell",
  "V": "vocabulary",
  "L": "layers",
  "E": "experts",
  "C": "classes: of texts, or of token types",
  "I": "gates of a recurrent cell",
  "M": "state size of Mamba-2",
  "J": "groups of heads that share b and c in Mamba-2",
  "A": "another width than D: ELECTRA's embeddings, a seq2seq model's source, a rank",
  "X": "experts chosen for a token (top_k)",
  "P": "pieces: of a row (chunks), or of documents",
  "Q": "position within a piece",
  "R": "rows of another count than B",
  "U": "buckets of relative distances",
  "W": "offsets in a window: taps of a convolution, neighbours of a word",
  "Z": "beams",
  "O": "candidates: top tokens, stop ids, noise words",
  "Y": "blocks of a vocabulary",
}

AXES = ("data", "fsdp", "tensor", "context", "expert", "stage")

# Letter -> mesh axes. The order settles clashes: a mesh axis is used once per array.
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
  """Returns a mesh with all six axes.

  Args:
    devices: by default all of the backend, those of other processes too.
    **sizes: lengths of axes, 1 by default; at most one may be -1, for what is left.

  Raises Mistake when the sizes do not multiply to the number of devices, for an unknown
  axis, and for stages, over which nothing is split yet.
  """
  unknown = sorted(set(sizes) - set(AXES))
  if unknown:
    raise Mistake(f"unknown mesh axis {unknown[0]!r}; the axes are {', '.join(AXES)}")
  devices = jax.devices() if devices is None else devices
  shape = [sizes.get(axis, 1) for axis in AXES]
  free = [i for i, n in enumerate(shape) if n == -1]
  fixed = math.prod(n for n in shape if n != -1)
  if len(free) == 1 and fixed > 0 and len(devices) % fixed == 0:
    shape[free[0]] = len(devices) // fixed
  if any(n < 1 for n in shape) or math.prod(shape) != len(devices):
    lengths = ", ".join(f"{axis}={sizes.get(axis, 1)}" for axis in AXES)
    raise Mistake(
      f"mesh {lengths} does not fit {len(devices)} devices; make the product equal to "
      "it or give one axis -1 to take what is left"
    )
  if (stages := shape[AXES.index("stage")]) > 1:
    raise Mistake(
      f"mesh stage={stages}: there are no pipeline stages yet; use data, fsdp or tensor"
    )
  return jax.make_mesh(
    tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices
  )


def spec(letters: str) -> PartitionSpec:
  """Returns the PartitionSpec of an array with these letters, by RULES.

  Letters without a rule are replicated, and so is an array of rank 1 (stacked over
  layers or not): sharding a norm's scale saves nothing and costs a small all-gather.

  >>> spec("VD")  # V takes the axis tensor, D what is left
  PartitionSpec('tensor', 'fsdp')
  """
  if len(letters.replace("L", "")) < 2:
    return PartitionSpec()
  return _by_rules(letters)


def _by_rules(letters: str) -> PartitionSpec:
  used, axes_of = set(), {}
  for letter, axes in RULES:
    if letter in letters and not used & set(axes):
      axes_of[letter] = axes if len(axes) > 1 else axes[0]
      used |= set(axes)
  return PartitionSpec(*(axes_of.get(letter) for letter in letters))


def sharding(mesh: Mesh, letters: str) -> NamedSharding:
  """Returns the sharding on `mesh` of an array with these letters."""
  return NamedSharding(mesh, spec(letters))


def suffix(name: str) -> str:
  """Returns the letters that a name ends in: "BT" for "tokens_BT"; "" without any."""
  tail = name.rpartition("_")[2]
  return tail if tail.isalpha() and tail.isupper() else ""


def batch_shardings(mesh: Mesh, batch) -> dict:
  """Returns the sharding of every array of a batch, by the suffix of its key.

  Unlike weights, arrays of rank 1 (label_B) are split too.
  """
  return {key: NamedSharding(mesh, _by_rules(suffix(key))) for key in batch}


def constrain(x, letters: str):
  """Returns x, constrained to `spec(letters)` on the mesh of `jax.set_mesh`."""
  return constrain_to(x, spec(letters))


def constrain_to(x, partition: PartitionSpec):
  """Returns x, constrained to a PartitionSpec that RULES do not give.

  Without a mesh, and on one of a single device, it is x itself. A `Form` has arrays of
  several ranks, whose first dimensions are those of the spec.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  constrain = jax.lax.with_sharding_constraint
  return jax.tree.map(
    lambda leaf: constrain(leaf, PartitionSpec(*partition[: leaf.ndim])), x
  )


class Form:
  """A parameter in another form than an array; `shape` is that of the array."""

  shape: tuple[int, ...]


def weight(module: nn.Module, name: str, letters: str, shape, init):
  """Returns a float32 parameter of `module`, made with these letters.

  `init(key, shape, dtype)` draws it, as in `jax.nn.initializers`. In the tree that
  `module.init` returns it is boxed with its letters; see `unbox` and `letters_of`. A
  model may be applied to matrices in bfloat16, which `lm.nn.linear` reads; vectors,
  which are computed with elementwise, become float32 here. A `Form` in place of an
  array is returned as it is.
  """
  value = module.get_variable("params", name)
  if isinstance(value, Form):
    assert value.shape == tuple(shape), f"{name} is {value.shape}, not {tuple(shape)}"
  else:
    value = _array(module, name, letters, shape, init)
  return value.astype(np.float32) if len(shape) == 1 else value


def _array(module: nn.Module, name: str, letters: str, shape, init):
  boxed = nn.with_logical_partitioning(init, tuple(letters))
  return module.param(name, boxed, tuple(shape), np.float32)


def _boxed(leaf) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


def unbox(tree):
  """Returns the plain arrays (or shapes) of a tree of parameters made by `weight`.

  `nn.unbox` would apply a sharding constraint, which fails for a tree of shapes and
  without a mesh.
  """
  return jax.tree.map(lambda p: p.value if _boxed(p) else p, tree, is_leaf=_boxed)


def letters_of(tree):
  """Returns the letters of every parameter of a boxed tree, as strings like "LDNH".

  Raises Mistake for a parameter that was not made by `weight`.
  """

  def letters(path, leaf):
    if not _boxed(leaf):
      raise Mistake(
        f"parameter {trees.path_name(path)} has no letters, like flax's nn.Dense and "
        "nn.Embed; make it with lm.letters.weight(self, name, 'DF', shape, init) "
        "or a layer of lm.nn: lm/models/__init__.py says what a family needs"
      )
    return "".join(leaf.names)

  return jax.tree_util.tree_map_with_path(letters, tree, is_leaf=_boxed)


def abstract(model: nn.Module, *args):
  """Returns (shapes, letters) of a model's parameters; nothing is computed.

  `args` are the example arguments of `model.init` behind the key. Both are trees like
  the parameters: of `jax.ShapeDtypeStruct`, and of strings like "LDNH".
  """
  return abstract_of(lambda key: model.init(key, *args)["params"])


def abstract_of(init):
  """Returns (shapes, letters), as `abstract` does, of init(key) -> boxed parameters."""
  boxed = jax.eval_shape(init, jax.random.key(0))
  return unbox(boxed), letters_of(boxed)


def state_dims(state, *trees_of_params):
  """Returns the letters of every leaf of `state`, a tree that holds parameters' copies.

  `trees_of_params` are pairs (parameters, their letters); of two with the same path the
  last one counts.

  Optimisers keep moments shaped like the parameters, at paths that end in a parameter's
  path: a leaf of such a path and of that parameter's shape gets its letters. Any other
  leaf gets the suffix of its own name (h_BLD, the state of a recurrent model) or, when
  it has none (counts, factored moments), "".
  """
  parameters = {}
  for tree, names in trees_of_params:
    leaves = trees.by_path(tree)
    for (path, leaf), name in zip(leaves.items(), jax.tree.leaves(names), strict=True):
      parameters[path] = (leaf.shape, name)

  def find(path, leaf):
    parts = trees.path_name(path).split("/")
    for start in range(len(parts)):
      shape, name = parameters.get("/".join(parts[start:]), (None, ""))
      if shape == leaf.shape:
        return name
    return suffix(parts[-1]) if len(suffix(parts[-1])) == leaf.ndim else ""

  return jax.tree_util.tree_map_with_path(find, state)


def shardings(mesh: Mesh, letters, tree):
  """Returns the NamedShardings of `tree`, whose leaves have the letters of `letters`.

  Raises Mistake naming the first array that a mesh axis cannot split evenly, and when
  the mesh splits experts and there are none.
  """
  groups = mesh.shape["expert"]
  if groups > 1 and not any("E" in name for name in jax.tree.leaves(letters)):
    raise Mistake(
      f"mesh expert={groups} splits experts, and the model has none; use data, fsdp or "
      "tensor"
    )

  def checked(path, name, leaf):
    placement = sharding(mesh, name)
    for letter, size, axes in zip(name, leaf.shape, placement.spec, strict=False):
      axes = (axes,) if isinstance(axes, str) else axes or ()
      parts = math.prod(mesh.shape[axis] for axis in axes)
      if size % parts:
        raise Mistake(
          f"{trees.path_name(path)} has {letter}={size}, which mesh "
          f"{'*'.join(axes)}={parts} does not divide; choose a mesh axis that divides "
          f"{size}"
        )
    return placement

  return jax.tree_util.tree_map_with_path(checked, letters, tree)
