"""How a model is computed: precision, depth as a loop or a scan, recomputation."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm import trees
from lm.errors import Mistake, one_of
from lm.nn import cpu
from lm.nn.linear import DTYPES

REMAT = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclass(frozen=True)
class Run:
  """How a model is computed, not what: the numbers are the same but for rounding."""

  dtype: str = "float32"  # of the operands of every matmul; "bfloat16" on TPU and GPU
  scan: bool = True  # depth scanned (short compile) or unrolled (fast on CPU)
  remat: str = "none"  # what the backward pass recomputes: none, dots, full
  dropout: float = 0.0  # of embeddings and of every block's outputs

  def __post_init__(self):
    one_of("dtype", self.dtype, DTYPES)
    one_of("remat", self.remat, REMAT)
    if not 0 <= self.dropout < 1:
      raise Mistake(f"dropout={self.dropout}; wanted 0 or more, less than 1")


class Stack(nn.Module):
  """`length` blocks, one after the other; their weights are one tree with L in front.

  A block is made as `block(config)` and called as `block(x, inputs, *shared)`; it
  returns `(x, outputs)`. Inputs and outputs belong to one layer (its cache, its key).

  Scanned, depth costs no compile time (TPUs, deep models). Unrolled, XLA:CPU runs 1.5x
  faster, and any leaf may be a tuple of L arrays in place of a stacked one, which saves
  the slicing (`split`). The numbers are the same either way.
  """

  block: type[nn.Module]
  config: Any
  length: int
  scan: bool
  remat: str

  @nn.compact
  def __call__(self, x, inputs, *shared):
    # Only a scan can create the stacked weights, and only there can one look inside.
    looking = self.is_mutable_collection("intermediates")
    if self.scan or looking or self.is_initializing():
      return self._scanned(
        x, jax.tree.map(_stacked, inputs, is_leaf=_is_split), *shared
      )
    block = self.block(self.config, parent=None)

    def apply(weights, x, inputs, *shared):
      return block.apply({"params": weights}, x, inputs, *shared)

    if self.remat != "none":
      apply = jax.checkpoint(apply, policy=REMAT[self.remat])
    weights, outputs = _cut(self.variables["params"]["layer"]), []
    for l in range(self.length):
      x, out = apply(
        _layer(weights, l), cpu.materialise_cotangent(x), _layer(inputs, l), *shared
      )
      outputs.append(out)
    return x, jax.tree.map(lambda *leaves: leaves, *outputs)

  def _scanned(self, x, inputs, *shared):
    block = self.block
    if self.remat != "none":
      block = nn.remat(block, policy=REMAT[self.remat], prevent_cse=False)
    scanned = nn.scan(
      block,
      variable_axes={"params": 0, "intermediates": 0},
      split_rngs={"params": True},
      in_axes=(0, *(nn.broadcast for _ in shared)),
      length=self.length,
      metadata_params={nn.PARTITION_NAME: "L"},
    )
    return scanned(self.config, name="layer")(x, inputs, *shared)


def split(params):
  """The parameters with every stacked weight as a tuple of L arrays.

  For loops outside of which the slicing should happen once, like decoding. It suits a
  model that is not scanned.
  """

  def one(path, leaf):
    return tuple(leaf) if "layer" in trees.path_name(path).split("/") else leaf

  return jax.tree_util.tree_map_with_path(one, params)


def _is_split(leaf) -> bool:
  return isinstance(leaf, tuple)


def _stacked(leaf):
  return jnp.stack(leaf) if _is_split(leaf) else leaf


def _cut(weights):
  """Every stacked weight as a tuple of L arrays, whose gradients are put together once.

  Indexing would add up L arrays of the whole size, all but one layer of each zeros.
  """

  def one(leaf):
    if _is_split(leaf):
      return leaf
    return tuple(piece[0] for piece in jax.lax.split(leaf, [1] * len(leaf)))

  return jax.tree.map(one, weights, is_leaf=_is_split)


def _layer(tree, l: int):
  return jax.tree.map(lambda leaf: leaf[l], tree, is_leaf=_is_split)
