"""Recurrent cells run over time: a scan that does only what cannot be done before it.

LSTM: Hochreiter and Schmidhuber 1997, the forget gate by Gers et al. 2000. GRU: Cho et
al. 2014, arXiv:1406.1078v1, whose reset gate comes after the matmul, as in cuDNN.
Gates stand in torch's order: input, forget, cell, output; reset, update, new. Of
torch's two biases, which are added up, there is one; only the new gate of a GRU, where
they are not, has a second (`recurrent_bias`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.sharding import PartitionSpec

from lm.letters import constrain, constrain_to, spec, weight
from lm.nn import cpu
from lm.nn.linear import dot, linear

UNROLL = 2  # time steps in one round of the loop; more compile longer and win nothing


@struct.dataclass
class State:
  """What a recurrent model knows of the tokens so far: its cache, of constant size.

  `layers` maps what a layer calls its arrays ("h_BD") to them: stacked with L in front,
  or, when the model is not scanned, a tuple of L.
  """

  layers: Any

  @classmethod
  def empty(cls, L: int, shapes: dict, *, scan: bool):
    """Zeros; `shapes` are those of one layer, B in front."""
    zeros = lambda shape: jnp.zeros(shape, jnp.float32)
    many = lambda shape: (
      zeros((L, *shape)) if scan else tuple(zeros(shape) for _ in range(L))
    )
    return cls({name: many(shape) for name, shape in shapes.items()})

  def take(self, rows_B):
    """The rows with these indices, for beams."""
    some = next(iter(self.layers.values()))
    axis = 0 if isinstance(some, tuple) else 1
    return State(jax.tree.map(lambda x: jnp.take(x, rows_B, axis=axis), self.layers))

  def carried(self) -> dict:
    """{"h_BLD": ...}: named and shaped as a batch is, for the next to go on from."""
    put = lambda x: jnp.stack(x, 1) if isinstance(x, tuple) else jnp.moveaxis(x, 0, 1)
    return {name.replace("_B", "_BL"): put(x) for name, x in self.layers.items()}

  @classmethod
  def resumed(cls, carry: dict):
    """The state that `carried` told of; stacked, as every model takes it."""
    return cls(
      {name.replace("_BL", "_B"): jnp.moveaxis(x, 1, 0) for name, x in carry.items()}
    )


@dataclass(frozen=True)
class Cell:
  """One kind of cell: from what comes in, what comes back and a state, the next state.

  `step(x_BIF, h_BIF, state) -> state`, x_BIF being the gates' part of the input and
  h_BIF that of the state's h_BD.
  """

  gates: int  # I
  state: tuple  # names of its parts
  step: Callable
  sums: bool  # x_BIF and h_BIF matter by their sum alone


def _lstm(x_BIF, h_BIF, state):
  i_BF, f_BF, g_BF, o_BF = jnp.unstack(x_BIF + h_BIF, axis=1)
  keep_BF, write_BF = jax.nn.sigmoid(f_BF), jax.nn.sigmoid(i_BF)
  c_BF = keep_BF * state["c_BF"] + write_BF * jnp.tanh(g_BF)
  return {"h_BD": jax.nn.sigmoid(o_BF) * jnp.tanh(c_BF), "c_BF": c_BF}


def _gru(x_BIF, h_BIF, state):
  r_BF = jax.nn.sigmoid(x_BIF[:, 0] + h_BIF[:, 0])
  z_BF = jax.nn.sigmoid(x_BIF[:, 1] + h_BIF[:, 1])
  n_BF = jnp.tanh(x_BIF[:, 2] + r_BF * h_BIF[:, 2])
  return {"h_BD": (1 - z_BF) * n_BF + z_BF * state["h_BD"]}


CELLS = {
  "lstm": Cell(4, ("h_BD", "c_BF"), _lstm, sums=True),
  "gru": Cell(3, ("h_BD",), _gru, sums=False),
}


class Recurrence(nn.Module):
  """One layer over time: h after every token, and the last state."""

  cell: str
  dtype: str

  @nn.compact
  def __call__(self, x_TBD, state=None, marks=None):
    """Returns x_TBD and a state, {"h_BD": ...}, the way one comes in (None: zeros).

    `marks` has "real" and "fresh", TB or None: at a token that is not real the state
    stays what it is, and before a fresh one it is emptied. Time comes first, because
    the loop takes its inputs so.
    """
    cell, (_, B, D) = CELLS[self.cell], x_TBD.shape
    shape = (D, cell.gates, D)
    x_TBIF = linear(self, "input", "TBD,DIF->TBIF", x_TBD, shape, dtype=self.dtype)
    x_TBIF = constrain(x_TBIF + self._bias("bias", shape[1:]), "TBIF")
    w_DIF = weight(self, "recurrent", "DIF", shape, _orthogonal)
    b_IF = jnp.zeros(shape[1:], jnp.float32)
    if not cell.sums:
      b_F = weight(self, "recurrent_bias", "F", (D,), nn.initializers.zeros)
      b_IF = b_IF.at[-1].set(b_F)
    # Whole in D on every device, once and not in every step of the loop.
    where = PartitionSpec(None, None, spec("DIF")[2])
    w_DIF = constrain_to(w_DIF, where)
    if state is None:
      state = {name: jnp.zeros((B, D), jnp.float32) for name in cell.state}
    marks = {"real": None, "fresh": None} if marks is None else marks
    h_TBD, state = over_time(self.cell, self.dtype, x_TBIF, (w_DIF, b_IF), state, marks)
    return constrain(h_TBD, "TBD"), state

  def _bias(self, name, shape):
    """b_IF, at first 1 for the forget gate of an LSTM (Jozefowicz et al. 2015)."""

    def init(key, shape, dtype):
      b_IF = jnp.zeros(shape, dtype)
      return b_IF.at[1].set(1) if self.cell == "lstm" else b_IF

    return weight(self, name, "IF", shape, init)[None, None]


def _orthogonal(key, shape, dtype):
  """w_DIF with an orthogonal matrix for every gate (arXiv:1312.6120)."""
  D, I, F = shape
  draw = jax.nn.initializers.orthogonal()
  w_IDF = jnp.stack([draw(k, (D, F), dtype) for k in jax.random.split(key, I)])
  return jnp.swapaxes(w_IDF, 0, 1)


def _where(mark_B, yes, no):
  """Trees, row by row; `yes` when there are no marks."""
  if mark_B is None:
    return yes
  return jax.tree.map(lambda a, b: jnp.where(mark_B[:, None], a, b), yes, no)


def _empty(fresh_B, state):
  """The state, or zeros in the rows that are fresh."""
  if fresh_B is None:
    return state
  return _where(fresh_B, jax.tree.map(jnp.zeros_like, state), state)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def over_time(name, dtype, x_TBIF, weights, state, marks):
  """(h_TBD, the last state) of the cell `name`; `weights` are w_DIF and b_IF.

  Its gradient sums the weights' over all time steps in one matmul after the loop. JAX's
  own would read and write an array of their size in every step.
  """
  return _forward(name, dtype, x_TBIF, weights, state, marks)[0]


def _forward(name, dtype, x_TBIF, weights, state, marks):
  cell, (w_DIF, b_IF) = CELLS[name], weights
  w_DIF = w_DIF.astype(dtype)

  def step(state, inputs):
    x_BIF, marks = inputs
    state = _empty(marks["fresh"], state)
    h_BIF = dot("BD,DIF->BIF", state["h_BD"], w_DIF, dtype) + b_IF[None]
    new = _where(marks["real"], cell.step(x_BIF, h_BIF, state), state)
    return new, (new, h_BIF)

  last, (states, h_TBIF) = jax.lax.scan(step, state, (x_TBIF, marks), unroll=UNROLL)
  saved = x_TBIF, weights, state, marks, states, h_TBIF
  return (states["h_BD"], last), saved


def _backward(name, dtype, saved, gradients):
  x_TBIF, (w_DIF, _), first, marks, states, h_TBIF = saved
  cell, (dh_TBD, dlast) = CELLS[name], gradients
  # A copy: XLA:CPU takes twice as long to multiply with a matrix across its rows.
  w_IFD = cpu.transpose(jnp.swapaxes(w_DIF.astype(dtype), 0, 1))
  before = jax.tree.map(
    lambda first, after: jnp.concatenate([first[None], after[:-1]]), first, states
  )

  def step(dstate, inputs):
    dh_BD, x_BIF, h_BIF, state, marks = inputs
    state = _empty(marks["fresh"], state)
    _, pull = jax.vjp(
      lambda *args: _where(marks["real"], cell.step(*args), args[2]),
      *(x_BIF, h_BIF, state),
    )
    dx_BIF, dr_BIF, dstate = pull(dstate | {"h_BD": dstate["h_BD"] + dh_BD})
    back_BD = dot("BIF,IFD->BD", dr_BIF, w_IFD, dtype)
    dstate = _empty(marks["fresh"], dstate | {"h_BD": dstate["h_BD"] + back_BD})
    return dstate, (None if cell.sums else dx_BIF, dr_BIF)

  inputs = (dh_TBD, x_TBIF, h_TBIF, before, marks)
  dfirst, (dx_TBIF, dr_TBIF) = jax.lax.scan(
    step, dlast, inputs, reverse=True, unroll=UNROLL
  )
  if marks["fresh"] is not None:
    before = jax.vmap(_empty)(marks["fresh"], before)
  weigh = lambda w_DIF: dot("TBD,DIF->TBIF", before["h_BD"], w_DIF, dtype)
  (dw_DIF,) = jax.vjp(weigh, w_DIF)[1](dr_TBIF)
  dweights = dw_DIF.astype(jnp.float32), jnp.sum(dr_TBIF, axis=(0, 1))
  return dr_TBIF if cell.sums else dx_TBIF, dweights, dfirst, None


over_time.defvjp(_forward, _backward)
