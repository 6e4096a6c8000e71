"""Depth: how a stack of layers is computed, scanned or unrolled, and how a model runs.

A form of depth is a function of one signature, which `scan` and `unroll` have:

  form(layers, variables, x, inputs, rows, *, length) -> (x, outputs)

- layers: functions layer(variables, x, inputs, rows) -> (x, outputs), used in turn:
  layer l is computed by layers[l % len(layers)]
- variables: a tree with L in front, of which a layer gets its slice
- x: the arrays that go from layer to layer, such as the residual stream
- inputs, outputs: trees that belong to one layer each, with L in front: cache, keys
- rows: arrays that all layers share and that have the rows of the batch as a dimension
  (or 1 in its place): masks, positions, rotary angles, places in a cache. A form that
  computes some rows at a time, as a pipeline does, has to cut them like x
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, one_of
from lm.nn import cpu
from lm.nn.linear import DTYPES

# What the backward pass keeps; it recomputes the rest.
REMAT = {
  "none": None,  # keeps all
  "full": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
LAYER = "layer"  # the name of a Stack's stacked variables in its tree


@dataclass(frozen=True)
class Run:
  """Options of the computation, which all families share.

  `dtype`, `scan` and `remat` change the numbers by rounding alone; `dropout` changes
  what training learns.
  """

  dtype: str = "float32"  # of the operands of every matmul; "bfloat16" on TPU and GPU
  scan: bool = True  # depth scanned (short compile) or unrolled (fast on CPU)
  remat: str = "none"  # what the backward pass recomputes: none, dots, full
  dropout: float = 0.0  # of embeddings and of every block's outputs

  def __post_init__(self):
    one_of("dtype", self.dtype, DTYPES)
    one_of("remat", self.remat, REMAT)
    if not 0 <= self.dropout < 1:
      raise Mistake(f"dropout={self.dropout}; wanted 0 or more, less than 1")


class Stack(nn.Module, kw_only=True):
  """`length` blocks, one after the other; their variables are one tree, L in front.

  A block is made as `block(config=config, **kind)`, where `kinds` are the fields by
  which layers differ, in turn. It is called as `block(x, inputs, rows)` and
  returns `(x, outputs)`, which the docstring of this file describes.

  Scanned, depth costs no compile time (TPUs, deep models). Unrolled, XLA:CPU runs 1.5x
  faster, and any leaf of variables or inputs may be a tuple of L arrays in place of a
  stacked one, which saves the slicing (`split`). The numbers are the same either way,
  and so is what a block records in "intermediates".
  """

  block: type[nn.Module]
  config: Any
  length: int  # L
  run: Run
  kinds: tuple = ({},)  # all kinds have the same parameters

  @nn.compact
  def __call__(self, x, inputs, rows=None):
    if self.is_initializing():
      inputs = jax.tree.map(_stacked, inputs, is_leaf=_is_split)
      return self._create(x, inputs, rows)
    form = scan if self.run.scan else unroll
    variables = {
      name: tree[LAYER]
      for name, tree in self.variables.items()
      if LAYER in tree and name != "intermediates"
    }
    written = [
      name
      for name in (*variables, "intermediates")
      if name != "params" and self.is_mutable_collection(name)
    ]
    layers = [self._function(kind, written) for kind in self.kinds]
    options = dict(length=self.length)
    x, (outputs, updates) = form(layers, variables, x, inputs, rows, **options)
    for name, tree in updates.items():
      tree = jax.tree.map(_stacked, tree, is_leaf=_is_split)
      self.put_variable(name, LAYER, _exchanged(tree, list, tuple))
    return x, outputs

  def _create(self, x, inputs, rows):
    """Creates the stacked variables, which only a lifted scan can do."""
    create = nn.scan(
      self.block,
      variable_axes={True: 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast),
      length=self.length,
      metadata_params={nn.PARTITION_NAME: "L"},
    )
    block = create(config=self.config, **self.kinds[0], name=LAYER)
    return block(x, inputs, rows)

  def _function(self, kind, written):
    """Returns layer(variables, x, inputs, rows) -> (x, (outputs, updates)).

    `written` names the collections that a block may change, which `updates` holds.
    """
    block = self.block(config=self.config, **kind, parent=None)

    def layer(variables, x, *args):
      results = block.apply(variables, x, *args, mutable=written or False)
      (x, outputs), updates = results if written else (results, {})
      # `sow` writes tuples, which would be taken for a leaf of L arrays.
      return x, (outputs, _exchanged(updates, tuple, list))

    if self.run.remat == "none":
      return layer
    # Forward and backward pass of a scan are two loops: they share nothing anyway.
    options = dict(policy=REMAT[self.run.remat], prevent_cse=not self.run.scan)
    return jax.checkpoint(layer, **options)


def scan(layers, variables, x, inputs, rows, *, length: int):
  """Computes the layers in a loop; of several kinds, each turn computes one of each.

  Layers that do not fill a turn come after the loop.
  """
  stacked = jax.tree.map(_stacked, [variables, inputs], is_leaf=_is_split)
  period = len(layers)
  if period == 1:
    turn = lambda x, own: layers[0](own[0], x, own[1], rows)
    return jax.lax.scan(turn, x, stacked, length=length)

  def several(x, own, count):
    """(x, the stacked outputs) of `count` layers."""
    own, outputs = [_split_by_layer(own[0]), own[1]], []
    for index in range(count):
      variables, inputs = _slice_of_layer(own, index)
      x, out = layers[index](variables, x, inputs, rows)
      outputs.append(out)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

  turns, left = divmod(length, period)
  parts, in_turns = [], turns * period
  if turns:
    own = jax.tree.map(
      lambda leaf: leaf[:in_turns].reshape(turns, period, *leaf.shape[1:]), stacked
    )
    x, outputs = jax.lax.scan(lambda x, own: several(x, own, period), x, own)
    merge = lambda leaf: leaf.reshape(in_turns, *leaf.shape[2:])
    parts.append(jax.tree.map(merge, outputs))
  if left:
    own = jax.tree.map(lambda leaf: leaf[in_turns:], stacked)
    x, outputs = several(x, own, left)
    parts.append(outputs)
  return x, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def unroll(layers, variables, x, inputs, rows, *, length: int):
  """Computes the layers one after the other; outputs are tuples of L leaves."""
  variables, outputs = _split_by_layer(variables), []
  for l in range(length):
    layer, own = layers[l % len(layers)], _slice_of_layer([variables, inputs], l)
    x, out = layer(own[0], cpu.materialise_cotangent(x), own[1], rows)
    outputs.append(out)
  return x, jax.tree.map(lambda *leaves: leaves, *outputs)


def split(params):
  """Returns the parameters with the stacked weights of a Stack as tuples of L arrays.

  For loops outside of which the slicing should happen once, like decoding. It suits a
  model that is not scanned. Those that are split already stay as they are.
  """
  if not isinstance(params, dict):
    return params
  if list(params) == [LAYER]:  # the tree of a Stack
    return {LAYER: jax.tree.map(tuple, params[LAYER], is_leaf=_is_split)}
  return {name: split(tree) for name, tree in params.items()}


def _exchanged(tree, old: type, new: type):
  """Returns the tree with its sequences of type `old` as those of type `new`."""
  return jax.tree.map(
    lambda node: new(node) if isinstance(node, old) else node,
    tree,
    is_leaf=lambda node: isinstance(node, old),
  )


def _is_split(leaf) -> bool:
  return isinstance(leaf, tuple)


def _stacked(leaf):
  return jnp.stack(leaf) if _is_split(leaf) else leaf


def _split_by_layer(variables):
  """Returns the tree with every stacked leaf as a tuple of L arrays.

  Their gradients are put together once. Indexing would add up L arrays of the whole
  size, all but one layer of each zeros.
  """

  def split_leaf(leaf):
    if _is_split(leaf):
      return leaf
    return tuple(piece[0] for piece in jax.lax.split(leaf, [1] * len(leaf)))

  return jax.tree.map(split_leaf, variables, is_leaf=_is_split)


def _slice_of_layer(tree, l: int):
  """Returns the tree with the array of layer l in place of every leaf."""
  return jax.tree.map(lambda leaf: leaf[l], tree, is_leaf=_is_split)
