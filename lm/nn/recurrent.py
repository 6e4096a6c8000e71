"""Recurrent cells over time: a scan of what cannot be computed for all tokens at once.

LSTM: Hochreiter and Schmidhuber 1997, the forget gate by Gers et al. 2000. GRU: Cho et
al. 2014, arXiv:1406.1078v1, whose reset gate comes after the matmul, as in cuDNN.
Gates are in PyTorch's order: input, forget, cell, output; reset, update, new. There is
one bias per gate (PyTorch keeps two and adds them). The GRU's new gate needs both, and
has `recurrent_bias` as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

from lm.letters import constrain, constrain_to, spec, weight
from lm.nn import cpu
from lm.nn.linear import dot, linear

UNROLL = 2  # time steps in one iteration; more compile longer and gain nothing


@dataclass(frozen=True)
class Cell:
  """A kind of cell: `step(x_BIF, h_BIF, state)` returns the next state.

  x_BIF are the gates' sums over the input, h_BIF those over the state's h_BD.
  """

  gates: int  # I
  state: tuple  # names of its parts
  step: Callable
  sums: bool  # the step reads only x_BIF + h_BIF


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


class Recurrence(nn.Module, kw_only=True):
  """One layer of cells over time."""

  cell: str
  dtype: str

  @nn.compact
  def __call__(self, x_TBD, state=None, masks=None):
    """Returns h_TBD, after every token, and the last state {"h_BD": ...}.

    `state` is the first state (None: zeros). `masks` has "real" and "fresh", TB
    or None: the state does not change at a token that is not real, and is set to zero
    before a fresh one. Time is the first dimension, over which the loop runs.
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
    # Gathered over D once, not in every step of the loop.
    w_DIF = constrain_to(w_DIF, PartitionSpec(None, None, spec("DIF")[2]))
    if state is None:
      state = {name: jnp.zeros((B, D), jnp.float32) for name in cell.state}
    masks = {"real": None, "fresh": None} if masks is None else masks
    h_TBD, state = over_time(self.cell, self.dtype, x_TBIF, (w_DIF, b_IF), state, masks)
    return constrain(h_TBD, "TBD"), state

  def _bias(self, name, shape):
    """Returns b_IF, initially 1 for an LSTM's forget gate (Jozefowicz et al. 2015)."""

    def init(key, shape, dtype):
      b_IF = jnp.zeros(shape, dtype)
      return b_IF.at[1].set(1) if self.cell == "lstm" else b_IF

    return weight(self, name, "IF", shape, init)[None, None]


def _orthogonal(key, shape, dtype):
  """Returns w_DIF with an orthogonal matrix for every gate (arXiv:1312.6120)."""
  D, I, F = shape
  draw = jax.nn.initializers.orthogonal()
  w_IDF = jnp.stack([draw(k, (D, F), dtype) for k in jax.random.split(key, I)])
  return jnp.swapaxes(w_IDF, 0, 1)


def _where(mask_B, yes, no):
  """Returns the tree `yes` in the rows of a mask, else `no`; `yes` without a mask."""
  if mask_B is None:
    return yes
  return jax.tree.map(lambda a, b: jnp.where(mask_B[:, None], a, b), yes, no)


def _empty(fresh_B, state):
  """Returns the state, with zeros in the rows that are fresh."""
  if fresh_B is None:
    return state
  return _where(fresh_B, jax.tree.map(jnp.zeros_like, state), state)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def over_time(name, dtype, x_TBIF, weights, state, masks):
  """Returns h_TBD and the last state of the cell `name`; `weights` are w_DIF, b_IF.

  The gradient of the weights is one matmul over all time steps after the loop. JAX's
  own gradient would read and write an array of their size in every step.
  """
  return _forward(name, dtype, x_TBIF, weights, state, masks)[0]


def _forward(name, dtype, x_TBIF, weights, state, masks):
  cell, (w_DIF, b_IF) = CELLS[name], weights
  w_DIF = w_DIF.astype(dtype)

  def step(state, inputs):
    x_BIF, masks = inputs
    state = _empty(masks["fresh"], state)
    h_BIF = dot("BD,DIF->BIF", state["h_BD"], w_DIF, dtype) + b_IF[None]
    new = _where(masks["real"], cell.step(x_BIF, h_BIF, state), state)
    return new, (new, h_BIF)

  last, (states, h_TBIF) = jax.lax.scan(step, state, (x_TBIF, masks), unroll=UNROLL)
  saved = x_TBIF, weights, state, masks, states, h_TBIF
  return (states["h_BD"], last), saved


def _backward(name, dtype, saved, gradients):
  x_TBIF, (w_DIF, _), first, masks, states, h_TBIF = saved
  cell, (dh_TBD, dlast) = CELLS[name], gradients
  # A copy: XLA:CPU multiplies by a matrix in this order twice as fast.
  w_IFD = cpu.transpose(jnp.swapaxes(w_DIF.astype(dtype), 0, 1))
  before = jax.tree.map(
    lambda first, after: jnp.concatenate([first[None], after[:-1]]), first, states
  )

  def step(dstate, inputs):
    dh_BD, x_BIF, h_BIF, state, masks = inputs
    state = _empty(masks["fresh"], state)
    _, pull = jax.vjp(
      lambda *args: _where(masks["real"], cell.step(*args), args[2]),
      *(x_BIF, h_BIF, state),
    )
    dx_BIF, dr_BIF, dstate = pull(dstate | {"h_BD": dstate["h_BD"] + dh_BD})
    back_BD = dot("BIF,IFD->BD", dr_BIF, w_IFD, dtype)
    dstate = _empty(masks["fresh"], dstate | {"h_BD": dstate["h_BD"] + back_BD})
    return dstate, (None if cell.sums else dx_BIF, dr_BIF)

  inputs = (dh_TBD, x_TBIF, h_TBIF, before, masks)
  dfirst, (dx_TBIF, dr_TBIF) = jax.lax.scan(
    step, dlast, inputs, reverse=True, unroll=UNROLL
  )
  if masks["fresh"] is not None:
    before = jax.vmap(_empty)(masks["fresh"], before)
  weigh = lambda w_DIF: dot("TBD,DIF->TBIF", before["h_BD"], w_DIF, dtype)
  (dw_DIF,) = jax.vjp(weigh, w_DIF)[1](dr_TBIF)
  dweights = dw_DIF.astype(jnp.float32), jnp.sum(dr_TBIF, axis=(0, 1))
  return dr_TBIF if cell.sums else dx_TBIF, dweights, dfirst, None


over_time.defvjp(_forward, _backward)
