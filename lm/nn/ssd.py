"""State space duality: a linear recurrence as matmuls over chunks, or step by step.

Mamba-2, arXiv:2405.21060, section 6. For every head, with a decay per token,
  state_t = exp(log_decay_t) state_{t-1} + x_t b_t^T,    y_t = state_t c_t.
Letters beyond the alphabet: G groups of heads that share b and c, R heads in one
(N = G R), F = R H, M state size, Z chunks, Q and S tokens of a chunk that look and are
seen. Decays, their sums and states are float32; the operands of matmuls are in `dtype`.
X is B, Z and G: one dimension on a CPU, and on a mesh, which may split them, three.

What one head sees in a chunk has a gradient of its own, and every matmul is a product
of matrices as they lie in memory, or of a turned copy (see lm.nn.cpu.transpose).
Einsums, and the gradients that JAX makes of them, took 0.43 s of CPU time for those of
2M parameters from 2,048 tokens in bfloat16, on two Intel cores with AMX; this, 0.27.
"""

from functools import partial

import jax
import jax.numpy as jnp

from lm.nn import cpu
from lm.nn.attention.masks import MASKED
from lm.nn.linear import dot

UNROLLED = 8  # states in one turn of the loop from chunk to chunk


def step(x_BNH, log_decay_BN, b_BGM, c_BGM, state_BNHM):
  """(y_BNH, the next state) of one token a row, in float32."""
  (B, N, H), (G, M) = x_BNH.shape, b_BGM.shape[1:]
  gained_BGRHM = x_BNH.reshape(B, G, N // G, H)[..., None] * b_BGM[:, :, None, None]
  state_BNHM = jnp.exp(log_decay_BN)[..., None, None] * state_BNHM
  state_BNHM += gained_BGRHM.reshape(B, N, H, M)
  c_BNM = jnp.repeat(c_BGM, N // G, axis=1)
  return jnp.sum(state_BNHM * c_BNM[:, :, None], axis=-1), state_BNHM


def chunked(
  x_BTNH, log_decay_BTN, b_BTGM, c_BTGM, state_BNHM, *, runs_BT, chunk, dtype
):
  """(y_BTNH, the last state) of whole rows that `state_BNHM` comes before.

  `runs_BT`, if not None, are whole numbers that never fall along a row: where they
  grow, the state is emptied. `chunk` is how many tokens meet in one matmul: more of
  them cost T * chunk time and memory, fewer a longer chain of states.
  """
  (B, T, N, H), (G, M) = x_BTNH.shape, b_BTGM.shape[2:]
  Q = min(chunk, T)
  # What fills up the last chunk has a decay of 1 and adds nothing to the state.
  extra = -T % Q

  def cut(x, *heads):
    x = jnp.pad(x, [(0, extra if axis == 1 else 0) for axis in range(x.ndim)])
    return x.reshape(B, -1, Q, *heads)

  log_decay_BZGRQ = jnp.moveaxis(cut(log_decay_BTN, G, N // G), 2, 4)
  x_XQRH = _one(jnp.moveaxis(cut(x_BTNH, G, N // G, H), 3, 2))
  b_XMS = _turned(_one(jnp.moveaxis(cut(b_BTGM, G, M), 3, 2)).astype(dtype))
  c_XQM = _one(jnp.moveaxis(cut(c_BTGM, G, M), 3, 2)).astype(dtype)
  if runs_BT is not None:
    runs_BT = jnp.pad(runs_BT, ((0, 0), (0, extra)), mode="edge")
  runs_BZQ = None if runs_BT is None else runs_BT.reshape(B, -1, Q)
  sees, since_BZGRQ = _sees(runs_BZQ, Q), _since(log_decay_BZGRQ, runs_BZQ)
  since_XRQ = _one(since_BZGRQ)
  kept_BZGR = jnp.exp(jnp.where(sees["through"], since_BZGRQ[..., -1], MASKED))

  def seen(name):
    """XRQ, or XRQS, with R of size 1."""
    like = (*since_BZGRQ.shape[:3], 1, Q, Q)[: 6 if name == "each" else 5]
    return _one(jnp.broadcast_to(sees[name], like))

  def decayed(x_XQRH, name, log_decay_XRQ):
    decay_XRQ = jnp.exp(jnp.where(seen(name), log_decay_XRQ, MASKED))
    return x_XQRH * jnp.swapaxes(decay_XRQ, -1, -2)[..., None]

  scores_XQS, x_XRQH = _product(c_XQM, b_XMS, dtype), jnp.swapaxes(x_XQRH, -2, -3)
  y_XRQH = _within(x_XRQH, since_XRQ, scores_XQS, seen("each"), dtype)
  ahead_XQRH = decayed(x_XQRH, "after", since_XRQ[..., -1:] - since_XRQ)
  gained_XMF = _product(b_XMS, _merged(ahead_XQRH), dtype)
  states_BZGMRH, last_BGMRH = _between(
    gained_XMF.reshape(B, -1, G, M, N // G, H),
    kept_BZGR,
    jnp.moveaxis(state_BNHM.reshape(B, G, N // G, H, M), 4, 2),
  )
  old_XQF = _product(c_XQM, _merged(_one(states_BZGMRH)), dtype)
  y_XQRH = decayed(old_XQF.reshape(x_XQRH.shape), "before", since_XRQ)
  y_XQRH += jnp.swapaxes(y_XRQH, -2, -3)
  y_BZQGRH = jnp.moveaxis(y_XQRH.reshape(B, -1, G, Q, N // G, H), 2, 3)
  y_BTNH = y_BZQGRH.reshape(B, -1, N, H)[:, :T]
  return y_BTNH, jnp.moveaxis(last_BGMRH, 2, 4).reshape(state_BNHM.shape)


def _sees(runs_BZQ, Q: int) -> dict:
  """Which tokens belong together, in shapes that broadcast against BZGRQ and more.

  "each": token q sees token s; "before": the state before its chunk; "after": it is
  seen by the state after it; "through": the one state is in the same run as the other.
  """
  causal_QS = jnp.tril(jnp.ones((Q, Q), bool))
  if runs_BZQ is None:
    each = causal_QS[None, None, None, None]
    return dict(each=each, before=True, after=True, through=True)
  same_BZQS = runs_BZQ[..., :, None] == runs_BZQ[..., None, :]
  end_BZ = runs_BZQ[:, :, -1]
  start_BZ = jnp.concatenate([runs_BZQ[:, :1, 0], end_BZ[:, :-1]], axis=1)
  return dict(
    each=(causal_QS[None, None] & same_BZQS)[:, :, None, None],
    before=(runs_BZQ == start_BZ[..., None])[:, :, None, None],
    after=(runs_BZQ == end_BZ[..., None])[:, :, None, None],
    through=(start_BZ == end_BZ)[:, :, None, None],
  )


def _since(log_decay_BZGRQ, runs_BZQ):
  """Sums of the log decays from the start of the chunk, or of a run that starts in it.

  Sums over other runs would cancel in what follows, but only up to rounding.
  """
  if runs_BZQ is None:
    return jnp.cumsum(log_decay_BZGRQ, axis=-1)
  first_BZQ = jnp.diff(runs_BZQ, axis=-1, prepend=runs_BZQ[..., :1]) != 0
  first_BZGRQ = jnp.broadcast_to(first_BZQ[:, :, None, None], log_decay_BZGRQ.shape)

  def add(one, two):
    return jnp.where(two[1], two[0], one[0] + two[0]), one[1] | two[1]

  pairs = log_decay_BZGRQ, first_BZGRQ
  return jax.lax.associative_scan(add, pairs, axis=4)[0]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _within(x_XRSH, since_XRS, scores_XQS, each_X1QS, dtype):
  """y_XRQH of what the chunks' own tokens say."""
  return _within_forward(x_XRSH, since_XRS, scores_XQS, each_X1QS, dtype)[0]


def _within_forward(x_XRSH, since_XRS, scores_XQS, each_X1QS, dtype):
  x_XRSH = _kept(x_XRSH.astype(dtype))
  ago_XRQS = since_XRS[..., :, None] - since_XRS[..., None, :]
  decay_XRQS = jnp.exp(jnp.where(each_X1QS, ago_XRQS, MASKED))
  weights_XRQS = (decay_XRQS * scores_XQS[..., None, :, :]).astype(dtype)
  y_XRQH = _multiplied(weights_XRQS, x_XRSH, dtype)
  return y_XRQH, (x_XRSH, decay_XRQS.astype(dtype), weights_XRQS)


def _within_backward(dtype, saved, dy_XRQH):
  x_XRSH, decay_XRQS, weights_XRQS = saved
  dy_XRQH = _kept(dy_XRQH.astype(dtype))
  dweights_XRQS = _multiplied(dy_XRQH, _turned(x_XRSH), dtype)
  dx_XRSH = _multiplied(_turned(weights_XRQS), dy_XRQH, dtype)
  wide = lambda x: x.astype(jnp.float32)
  dscores_XQS = jnp.sum(dweights_XRQS * wide(decay_XRQS), axis=-3)
  dago_XRQS = dweights_XRQS * wide(weights_XRQS)
  dsince_XRS = jnp.sum(dago_XRQS, axis=-1) - jnp.sum(dago_XRQS, axis=-2)
  return dx_XRSH, dsince_XRS, dscores_XQS, None


_within.defvjp(_within_forward, _within_backward)


def _between(gained_BZGMRH, kept_BZGR, first_BGMRH):
  """The states before every chunk, and the one after the last; float32."""

  def chunk(state_BGMRH, inputs):
    kept_BGR, gained_BGMRH = inputs
    return kept_BGR[:, :, None, :, None] * state_BGMRH + gained_BGMRH, state_BGMRH

  first = lambda x: jnp.moveaxis(x, 1, 0)
  inputs, Z = (first(kept_BZGR), first(gained_BZGMRH)), kept_BZGR.shape[1]
  last_BGMRH, states_ZBGMRH = jax.lax.scan(
    chunk, first_BGMRH, inputs, unroll=min(Z, UNROLLED)
  )
  return jnp.moveaxis(states_ZBGMRH, 0, 1), last_BGMRH


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x_XQM, y_XMF, dtype):
  """The matrix products, in float32, of operands in `dtype`."""
  return _multiplied(x_XQM, y_XMF, dtype)


def _product_forward(x_XQM, y_XMF, dtype):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x_XQM.dtype), jnp.zeros((), y_XMF.dtype)
  x_XQM, y_XMF = x_XQM.astype(dtype), y_XMF.astype(dtype)
  return _multiplied(x_XQM, y_XMF, dtype), (x_XQM, y_XMF, tags)


def _product_backward(dtype, saved, g_XQF):
  x_XQM, y_XMF, (x_tag, y_tag) = saved
  g_XQF = g_XQF.astype(dtype)
  dx_XQM = _multiplied(g_XQF, _turned(y_XMF), dtype)
  dy_XMF = _multiplied(_turned(x_XQM), g_XQF, dtype)
  return dx_XQM.astype(x_tag.dtype), dy_XMF.astype(y_tag.dtype)


_product.defvjp(_product_forward, _product_backward)


def _one(x):
  """B, Z and G as X; beside a G of size 1, XLA:CPU adds up 20 times more slowly."""
  return cpu.merge_leading(x, 3)


def _multiplied(x, y, dtype):
  """Matrix products; on a CPU with one leading dimension, which XLA does best."""
  if not cpu.active():
    letters = "BZGR"[: x.ndim - 2]
    return dot(f"{letters}QK,{letters}KN->{letters}QN", x, y, dtype)
  flat = lambda x: x.reshape(-1, *x.shape[-2:])
  z = dot("XQK,XKN->XQN", flat(x), flat(y), dtype)
  return z.reshape(*x.shape[:-1], y.shape[-1])


def _merged(x_XQRH):
  """R and H as F."""
  return x_XQRH.reshape(*x_XQRH.shape[:-2], -1)


def _turned(x):
  """The last two dimensions exchanged; for XLA:CPU by a copy."""
  return cpu.transpose(x)


def _kept(x):
  """`x` as an array of its own: XLA:CPU would move it anew for each of its readers."""
  return cpu.copy(x)
