"""The state of a recurrent model between tokens, and from batch to batch."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class State:
  """The cache of a recurrent model, of constant size.

  `layers` maps the names of a layer's arrays ("h_BD") to the arrays of all layers:
  stacked with L in front, or a tuple of L when the model is not scanned.
  """

  rewinds: ClassVar[bool] = False  # a token that was read cannot be taken back

  layers: Any

  @classmethod
  def empty(cls, L: int, shapes: dict, *, scan: bool):
    """Returns a state of zeros; `shapes` are those of one layer, B in front."""
    zeros = lambda shape: jnp.zeros(shape, jnp.float32)
    layers = lambda shape: (
      zeros((L, *shape)) if scan else tuple(zeros(shape) for _ in range(L))
    )
    return cls({name: layers(shape) for name, shape in shapes.items()})

  def take(self, rows_B):
    """Returns the state of the rows with these indices, for beams."""
    take = lambda x: jnp.take(x, rows_B, axis=self._rows_axis)
    return State(jax.tree.map(take, self.layers))

  def put(self, row, one: "State"):
    """Returns the state with the only row of `one` as a row."""
    axis = self._rows_axis
    write = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, row, axis)
    return State(jax.tree.map(write, self.layers, one.layers))

  def columns(self, start, size: int):
    """Returns the state itself: it holds all that was read."""
    del start, size
    return self

  def filled(self, part, start):
    """Returns `part`, the state after what was read."""
    del start
    return part

  def as_dtype(self, dtype):
    """Returns the state itself: it adds up over all tokens, and stays float32."""
    del dtype
    return self

  def ended(self, lengths_B):
    """Returns the state itself: padding behind the tokens has not changed it."""
    del lengths_B
    return self

  @property
  def _rows_axis(self) -> int:
    return 0 if isinstance(next(iter(self.layers.values())), tuple) else 1

  def carried(self) -> dict:
    """Returns {"h_BLD": ...}, named and sharded like a batch: the carry of a step."""
    put = lambda x: jnp.stack(x, 1) if isinstance(x, tuple) else jnp.moveaxis(x, 0, 1)
    return {name.replace("_B", "_BL"): put(x) for name, x in self.layers.items()}

  @classmethod
  def resumed(cls, carry: dict):
    """Returns the state of which `carry` is `carried()`, stacked."""
    return cls(
      {name.replace("_BL", "_B"): jnp.moveaxis(x, 1, 0) for name, x in carry.items()}
    )
