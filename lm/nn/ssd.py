"""State space duality: a linear recurrence as matmuls over chunks, or step by step.

Mamba-2, arXiv:2405.21060, section 6. For every head, with a decay per token,
  state_t = exp(log_decay_t) state_{t-1} + x_t b_t^T,    y_t = state_t c_t.
J are groups of heads that share b and c, G the heads of one (N = J G), P chunks, Q the
tokens of a chunk as queries and S as keys, F = G H. R is B, P and J: one dimension for
a CPU, and three on a mesh, which may split them. Decays, their sums and states are
float32; the operands of matmuls are in `dtype`.

The part of a chunk within itself has a gradient of its own, and every matmul is a
product of matrices as they lie in memory, or of a transposed copy (`cpu.transpose`).
Einsums, and the gradients that JAX makes of them, took 0.43 s of CPU time for those of
2M parameters from 2,048 tokens in bfloat16, on two Intel cores with AMX; this, 0.27.
"""

from functools import partial

import jax
import jax.numpy as jnp

from lm.nn import cpu
from lm.nn.attention.masks import MASKED
from lm.nn.linear import dot

UNROLLED = 8  # chunks in one iteration of the loop over states


def step(x_BNH, log_decay_BN, b_BJM, c_BJM, state_BNHM):
  """Returns y_BNH and the next state, for one token a row, in float32."""
  (B, N, H), (J, M) = x_BNH.shape, b_BJM.shape[1:]
  gained_BJGHM = x_BNH.reshape(B, J, N // J, H)[..., None] * b_BJM[:, :, None, None]
  state_BNHM = jnp.exp(log_decay_BN)[..., None, None] * state_BNHM
  state_BNHM += gained_BJGHM.reshape(B, N, H, M)
  c_BNM = jnp.repeat(c_BJM, N // J, axis=1)
  return jnp.sum(state_BNHM * c_BNM[:, :, None], axis=-1), state_BNHM


def chunked(
  x_BTNH, log_decay_BTN, b_BTJM, c_BTJM, state_BNHM, *, runs_BT, chunk, dtype
):
  """Returns y_BTNH and the last state, of whole rows that start from `state_BNHM`.

  `runs_BT`, if not None, are integers that do not decrease along a row: where they
  increase, the state is reset to zero. `chunk` is the number of tokens in one matmul:
  time and memory grow with T * chunk, and the chain of states with T / chunk.
  """
  (B, T, N, H), (J, M) = x_BTNH.shape, b_BTJM.shape[2:]
  Q = min(chunk, T)
  # Padding of the last chunk has a decay of 1 and adds nothing to the state.
  extra = -T % Q

  def cut(x, *heads):
    x = jnp.pad(x, [(0, extra if axis == 1 else 0) for axis in range(x.ndim)])
    return x.reshape(B, -1, Q, *heads)

  log_decay_BPJGQ = jnp.moveaxis(cut(log_decay_BTN, J, N // J), 2, 4)
  x_RQGH = _one(jnp.moveaxis(cut(x_BTNH, J, N // J, H), 3, 2))
  b_RMS = cpu.transpose(_one(jnp.moveaxis(cut(b_BTJM, J, M), 3, 2)).astype(dtype))
  c_RQM = _one(jnp.moveaxis(cut(c_BTJM, J, M), 3, 2)).astype(dtype)
  if runs_BT is not None:
    runs_BT = jnp.pad(runs_BT, ((0, 0), (0, extra)), mode="edge")
  runs_BPQ = None if runs_BT is None else runs_BT.reshape(B, -1, Q)
  sees, since_BPJGQ = _sees(runs_BPQ, Q), _since(log_decay_BPJGQ, runs_BPQ)
  since_RGQ = _one(since_BPJGQ)
  kept_BPJG = jnp.exp(jnp.where(sees["through"], since_BPJGQ[..., -1], MASKED))

  def seen(name):
    """Returns a mask RGQ, or RGQS, with G of size 1."""
    like = (*since_BPJGQ.shape[:3], 1, Q, Q)[: 6 if name == "each" else 5]
    return _one(jnp.broadcast_to(sees[name], like))

  def decayed(x_RQGH, name, log_decay_RGQ):
    decay_RGQ = jnp.exp(jnp.where(seen(name), log_decay_RGQ, MASKED))
    return x_RQGH * jnp.swapaxes(decay_RGQ, -1, -2)[..., None]

  scores_RQS, x_RGQH = _product(c_RQM, b_RMS, dtype), jnp.swapaxes(x_RQGH, -2, -3)
  y_RGQH = _within(x_RGQH, since_RGQ, scores_RQS, seen("each"), dtype)
  ahead_RQGH = decayed(x_RQGH, "after", since_RGQ[..., -1:] - since_RGQ)
  gained_RMF = _product(b_RMS, _merged(ahead_RQGH), dtype)
  states_BPJMGH, last_BJMGH = _between(
    gained_RMF.reshape(B, -1, J, M, N // J, H),
    kept_BPJG,
    jnp.moveaxis(state_BNHM.reshape(B, J, N // J, H, M), 4, 2),
  )
  old_RQF = _product(c_RQM, _merged(_one(states_BPJMGH)), dtype)
  y_RQGH = decayed(old_RQF.reshape(x_RQGH.shape), "before", since_RGQ)
  y_RQGH += jnp.swapaxes(y_RGQH, -2, -3)
  y_BPQJGH = jnp.moveaxis(y_RQGH.reshape(B, -1, J, Q, N // J, H), 2, 3)
  y_BTNH = y_BPQJGH.reshape(B, -1, N, H)[:, :T]
  return y_BTNH, jnp.moveaxis(last_BJMGH, 2, 4).reshape(state_BNHM.shape)


def _sees(runs_BPQ, Q: int) -> dict:
  """Returns masks of what belongs to one run, which broadcast against BPJGQ and BPJGQS.

  "each": token q and token s; "before": token q and the state before its chunk;
  "after": token q and the state after its chunk; "through": the two states.
  """
  causal_QS = jnp.tril(jnp.ones((Q, Q), bool))
  if runs_BPQ is None:
    each = causal_QS[None, None, None, None]
    return dict(each=each, before=True, after=True, through=True)
  same_BPQS = runs_BPQ[..., :, None] == runs_BPQ[..., None, :]
  end_BP = runs_BPQ[:, :, -1]
  start_BP = jnp.concatenate([runs_BPQ[:, :1, 0], end_BP[:, :-1]], axis=1)
  return dict(
    each=(causal_QS[None, None] & same_BPQS)[:, :, None, None],
    before=(runs_BPQ == start_BP[..., None])[:, :, None, None],
    after=(runs_BPQ == end_BP[..., None])[:, :, None, None],
    through=(start_BP == end_BP)[:, :, None, None],
  )


def _since(log_decay_BPJGQ, runs_BPQ):
  """Returns sums of the log decays from the start of the chunk or, if later, the run.

  Sums over other runs would cancel later, but only up to rounding.
  """
  if runs_BPQ is None:
    return jnp.cumsum(log_decay_BPJGQ, axis=-1)
  first_BPQ = jnp.diff(runs_BPQ, axis=-1, prepend=runs_BPQ[..., :1]) != 0
  first_BPJGQ = jnp.broadcast_to(first_BPQ[:, :, None, None], log_decay_BPJGQ.shape)

  def add(left, right):
    total = jnp.where(right[1], right[0], left[0] + right[0])
    return total, left[1] | right[1]

  pairs = log_decay_BPJGQ, first_BPJGQ
  return jax.lax.associative_scan(add, pairs, axis=4)[0]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _within(x_RGSH, since_RGS, scores_RQS, each_R1QS, dtype):
  """Returns y_RGQH from the tokens of the same chunk."""
  return _within_forward(x_RGSH, since_RGS, scores_RQS, each_R1QS, dtype)[0]


def _within_forward(x_RGSH, since_RGS, scores_RQS, each_R1QS, dtype):
  x_RGSH = cpu.copy(x_RGSH.astype(dtype))
  ago_RGQS = since_RGS[..., :, None] - since_RGS[..., None, :]
  decay_RGQS = jnp.exp(jnp.where(each_R1QS, ago_RGQS, MASKED))
  weights_RGQS = (decay_RGQS * scores_RQS[..., None, :, :]).astype(dtype)
  y_RGQH = _multiplied(weights_RGQS, x_RGSH, dtype)
  return y_RGQH, (x_RGSH, decay_RGQS.astype(dtype), weights_RGQS)


def _within_backward(dtype, saved, dy_RGQH):
  x_RGSH, decay_RGQS, weights_RGQS = saved
  dy_RGQH = cpu.copy(dy_RGQH.astype(dtype))
  dweights_RGQS = _multiplied(dy_RGQH, cpu.transpose(x_RGSH), dtype)
  dx_RGSH = _multiplied(cpu.transpose(weights_RGQS), dy_RGQH, dtype)
  wide = lambda x: x.astype(jnp.float32)
  dscores_RQS = jnp.sum(dweights_RGQS * wide(decay_RGQS), axis=-3)
  dago_RGQS = dweights_RGQS * wide(weights_RGQS)
  dsince_RGS = jnp.sum(dago_RGQS, axis=-1) - jnp.sum(dago_RGQS, axis=-2)
  return dx_RGSH, dsince_RGS, dscores_RQS, None


_within.defvjp(_within_forward, _within_backward)


def _between(gained_BPJMGH, kept_BPJG, first_BJMGH):
  """Returns the states before every chunk, and the one after the last; float32."""

  def chunk(state_BJMGH, inputs):
    kept_BJG, gained_BJMGH = inputs
    return kept_BJG[:, :, None, :, None] * state_BJMGH + gained_BJMGH, state_BJMGH

  first = lambda x: jnp.moveaxis(x, 1, 0)
  inputs, P = (first(kept_BPJG), first(gained_BPJMGH)), kept_BPJG.shape[1]
  last_BJMGH, states_PBJMGH = jax.lax.scan(
    chunk, first_BJMGH, inputs, unroll=min(P, UNROLLED)
  )
  return jnp.moveaxis(states_PBJMGH, 0, 1), last_BJMGH


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x_RQM, y_RMF, dtype):
  """Returns the matrix products of operands in `dtype`, in float32."""
  return _multiplied(x_RQM, y_RMF, dtype)


def _product_forward(x_RQM, y_RMF, dtype):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x_RQM.dtype), jnp.zeros((), y_RMF.dtype)
  x_RQM, y_RMF = x_RQM.astype(dtype), y_RMF.astype(dtype)
  return _multiplied(x_RQM, y_RMF, dtype), (x_RQM, y_RMF, tags)


def _product_backward(dtype, saved, g_RQF):
  x_RQM, y_RMF, (x_tag, y_tag) = saved
  g_RQF = g_RQF.astype(dtype)
  dx_RQM = _multiplied(g_RQF, cpu.transpose(y_RMF), dtype)
  dy_RMF = _multiplied(cpu.transpose(x_RQM), g_RQF, dtype)
  return dx_RQM.astype(x_tag.dtype), dy_RMF.astype(y_tag.dtype)


_product.defvjp(_product_forward, _product_backward)


def _one(x):
  """Returns x with B, P and J as R, for a CPU."""
  return cpu.merge_leading(x, 3)


def _multiplied(x, y, dtype):
  """Returns matrix products; on a CPU with one leading dimension, the fastest form."""
  if not cpu.active():
    letters = "BPJG"[: x.ndim - 2]
    return dot(f"{letters}QM,{letters}MF->{letters}QF", x, y, dtype)
  flat = lambda x: x.reshape(-1, *x.shape[-2:])
  z = dot("RQM,RMF->RQF", flat(x), flat(y), dtype)
  return z.reshape(*x.shape[:-1], y.shape[-1])


def _merged(x_RQGH):
  """Returns x with G and H as F."""
  return x_RQGH.reshape(*x_RQGH.shape[:-2], -1)
