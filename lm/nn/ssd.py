"""State space duality: a linear recurrence as matmuls over chunks, or step by step.

Mamba-2, arXiv:2405.21060, section 6. For every head, with a decay per token,
  state_t = exp(log_decay_t) state_{t-1} + x_t b_t^T,    y_t = state_t c_t.
Letters beyond the alphabet: G groups of heads that share b and c, R heads in one
(N = G R), M state size, Z chunks, Q and S tokens of a chunk that look and are seen.
Decays, their sums and states are float32; the operands of matmuls are in `dtype`.
"""

import jax
import jax.numpy as jnp

from lm.nn.linear import dot
from lm.nn.masks import MASKED


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

  x_BZGRQH = jnp.moveaxis(cut(x_BTNH, G, N // G, H), 2, 4)
  log_decay_BZGRQ = jnp.moveaxis(cut(log_decay_BTN, G, N // G), 2, 4)
  b_BZGSM = jnp.moveaxis(cut(b_BTGM, G, M), 2, 3)
  c_BZGQM = jnp.moveaxis(cut(c_BTGM, G, M), 2, 3)
  if runs_BT is not None:
    runs_BT = jnp.pad(runs_BT, ((0, 0), (0, extra)), mode="edge")
  runs_BZQ = None if runs_BT is None else runs_BT.reshape(B, -1, Q)
  sees, since_BZGRQ = _sees(runs_BZQ, Q), _since(log_decay_BZGRQ, runs_BZQ)

  y_BZGRQH = _within(x_BZGRQH, since_BZGRQ, b_BZGSM, c_BZGQM, sees["each"], dtype)
  first_BGRHM = state_BNHM.reshape(B, G, N // G, H, M)
  states_BZGRHM, last_BGRHM = _between(
    x_BZGRQH, since_BZGRQ, b_BZGSM, first_BGRHM, sees, dtype
  )
  old_BZGRQH = dot("BZGRHM,BZGQM->BZGRQH", states_BZGRHM, c_BZGQM, dtype)
  decay_BZGRQ = jnp.exp(jnp.where(sees["before"], since_BZGRQ, MASKED))
  y_BZGRQH += old_BZGRQH * decay_BZGRQ[..., None]
  y_BTNH = jnp.moveaxis(y_BZGRQH, 4, 2).reshape(B, -1, N, H)[:, :T]
  return y_BTNH, last_BGRHM.reshape(state_BNHM.shape)


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


def _within(x_BZGRSH, since_BZGRS, b_BZGSM, c_BZGQM, each, dtype):
  """y_BZGRQH of what the chunks' own tokens say."""
  scores_BZGQS = dot("BZGQM,BZGSM->BZGQS", c_BZGQM, b_BZGSM, dtype)
  ago_BZGRQS = since_BZGRS[..., :, None] - since_BZGRS[..., None, :]
  decay_BZGRQS = jnp.exp(jnp.where(each, ago_BZGRQS, MASKED))
  weights_BZGRQS = decay_BZGRQS * scores_BZGQS[:, :, :, None]
  return dot("BZGRQS,BZGRSH->BZGRQH", weights_BZGRQS, x_BZGRSH, dtype)


def _between(x_BZGRSH, since_BZGRS, b_BZGSM, first_BGRHM, sees, dtype):
  """The states before every chunk, and the one after the last; float32."""
  ahead_BZGRS = since_BZGRS[..., -1:] - since_BZGRS
  decay_BZGRS = jnp.exp(jnp.where(sees["after"], ahead_BZGRS, MASKED))
  x_BZGRSH = x_BZGRSH * decay_BZGRS[..., None]
  gained_BZGRHM = dot("BZGRSH,BZGSM->BZGRHM", x_BZGRSH, b_BZGSM, dtype)
  kept_BZGR = jnp.exp(jnp.where(sees["through"], since_BZGRS[..., -1], MASKED))

  def chunk(state_BGRHM, inputs):
    kept_BGR, gained_BGRHM = inputs
    return kept_BGR[..., None, None] * state_BGRHM + gained_BGRHM, state_BGRHM

  first = lambda x: jnp.moveaxis(x, 1, 0)
  inputs = first(kept_BZGR), first(gained_BZGRHM)
  last_BGRHM, states_ZBGRHM = jax.lax.scan(chunk, first_BGRHM, inputs)
  return jnp.moveaxis(states_ZBGRHM, 0, 1), last_BGRHM
