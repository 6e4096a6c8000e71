"""Prompts of ids in, continuations of ids out: the loop that never leaves the device.

`start` reads the prompts, all but their last tokens; `advance` runs the compiled loop,
which begins with those, until a given number of tokens or until every row is done.
Calling it once or in pieces gives the same tokens, so streaming is the same code.
Nothing here knows text.

Shapes are rounded up to buckets and everything else (lengths, limits, temperatures,
seeds, stop ids) is an argument, so a new prompt or setting does not compile again.
Prompts are padded on the right with positions of -1, which nobody attends to.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from lm import rng
from lm.errors import Mistake
from lm.generate.prompts import bucket, check_room, pad_prompts, pad_sources, stop_row
from lm.generate.sample import Sampling, check, choose
from lm.nn.depth import split


@struct.dataclass
class State:
  """What a generation carries from token to token, for B rows of at most T new ones."""

  cache: Any
  sampling: Sampling
  keys_B: jax.Array
  prompts_B: jax.Array  # lengths of the prompts
  limits_B: jax.Array  # the most tokens a row may get
  stops_C: jax.Array  # ids that end a row
  step: jax.Array  # how many tokens a row has got unless it was done
  last_B: jax.Array  # the token to go on from
  done_B: jax.Array
  stopped_B: jax.Array  # done by a stop id
  finite: jax.Array  # no logit was NaN so far
  seen_BV: jax.Array  # tokens of the prompt and of the continuation
  ids_BT: jax.Array
  counts_B: jax.Array  # tokens got, the stop id included
  logprobs_BT: jax.Array
  scored: jax.Array  # whether logprobs_BT is wanted


@dataclass(frozen=True)
class Output:
  """Continuations, as numpy arrays; what lies behind a row's length means nothing."""

  ids_BT: np.ndarray
  lengths_B: np.ndarray  # the stop id is counted
  reasons: tuple  # "stop" or "length" for each row; None while it is still going
  logprobs_BT: np.ndarray  # of the tokens, under the model itself; 0 unless asked for


def prepare(model, params):
  """The parameters in the form the loop is fastest with; do it once, not per call.

  For an unrolled model that is one array a layer, so that no step slices a stack.
  """
  return params if model.config.run.scan else split(params)


@functools.partial(jax.jit, static_argnames=("model", "size"))
def prefill(model, params, tokens_BT, prompts_B, source, *, size):
  """The cache (of `size` slots) of all tokens but each row's last, and seen_BV of all.

  The last one is left to the loop, so that choosing a token is compiled once. `source`
  are the arrays that some models read besides, see `pad_sources`.
  """
  B, T = tokens_BT.shape
  index_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  x_BTD, cache, _ = model.apply(
    {"params": params},
    tokens_BT,
    positions_BT=jnp.where(index_BT < prompts_B[:, None] - 1, index_BT, -1),
    cache=model.init_cache(B, size),
    method="features",
    **source,
  )
  readout = functools.partial(model.apply, method="readout")
  V = jax.eval_shape(readout, {"params": params}, x_BTD).shape[-1]
  # A pad counts as the row's first token, which has been seen anyway.
  real_BT = index_BT < prompts_B[:, None]
  shown_BT = jnp.where(real_BT, tokens_BT, tokens_BT[:, :1])
  return cache, jnp.zeros((B, V), bool).at[jnp.arange(B)[:, None], shown_BT].set(True)


def forward(model, params, tokens_B, positions_B, cache):
  """logits_BV after one more token a row, and the cache with it."""
  x_B1D, cache, _ = model.apply(
    {"params": params},
    tokens_B[:, None],
    positions_BT=positions_B[:, None],
    cache=cache,
    method="features",
  )
  return model.apply({"params": params}, x_B1D, method="readout")[:, 0], cache


def _record(state: State, logits_BV) -> State:
  """The state with one more token a row, chosen from the logits."""
  s = state
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(s.keys_B, s.step)
  tokens_B = choose(logits_BV, s.seen_BV, keys_B, s.sampling)
  live_B = ~s.done_B
  tokens_B = jnp.where(live_B, tokens_B, 0)
  stopped_B = live_B & jnp.any(tokens_B[:, None] == s.stops_C[None], axis=1)
  counts_B = s.counts_B + live_B
  logprobs_B = lax.cond(
    s.scored,
    lambda: (
      (
        jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=1)[:, 0]
        - jax.nn.logsumexp(logits_BV, axis=1)
      )
      * live_B
    ),
    lambda: jnp.zeros(tokens_B.shape, jnp.float32),
  )
  at = (0, s.step)
  return s.replace(
    step=s.step + 1,
    last_B=tokens_B,
    done_B=s.done_B | stopped_B | (counts_B >= s.limits_B),
    stopped_B=s.stopped_B | stopped_B,
    finite=s.finite & ~jnp.any(live_B & jnp.isnan(jnp.max(logits_BV, axis=1))),
    seen_BV=s.seen_BV.at[jnp.arange(tokens_B.size), tokens_B].set(True),
    ids_BT=lax.dynamic_update_slice(s.ids_BT, tokens_B[:, None], at),
    counts_B=counts_B,
    logprobs_BT=lax.dynamic_update_slice(s.logprobs_BT, logprobs_B[:, None], at),
  )


@functools.partial(jax.jit, static_argnames="T")
def _begin(seen_PV, from_B, root, samples_B, *, T, **fields):
  """The state before the first token, its cache apart; `from_B` are rows of prompts."""
  B = from_B.size
  return State(
    cache=None,
    keys_B=jax.vmap(jax.random.fold_in, (None, 0))(root, samples_B),
    step=jnp.int32(0),
    stopped_B=jnp.zeros(B, bool),
    finite=jnp.bool_(True),
    seen_BV=seen_PV[from_B],
    ids_BT=jnp.zeros((B, T), jnp.int32),
    counts_B=jnp.zeros(B, jnp.int32),
    logprobs_BT=jnp.zeros((B, T), jnp.float32),
    **fields,
  )


_take = jax.jit(lambda cache, rows_B: cache.take(rows_B))


@functools.partial(jax.jit, static_argnames="model", donate_argnames="state")
def _loop(model, params, state, until):
  def going(s):
    return (s.step < until) & ~jnp.all(s.done_B)

  def body(s):
    # A finished row is computed along; its position stays within what was allowed.
    positions_B = s.prompts_B - 1 + jnp.minimum(s.step, s.limits_B - 1)
    logits_BV, cache = forward(model, params, s.last_B, positions_B, s.cache)
    return _record(s.replace(cache=cache), logits_BV)

  return lax.while_loop(going, body, state)


def start(
  model,
  params,
  prompts,
  *,
  max_tokens,
  sampling=None,
  n=1,
  seed=0,
  stops=(),
  logprobs=False,
  sources=None,
) -> State:
  """The state before the first token of `n` continuations of every prompt (ids).

  Rows are ordered by prompt, then sample; the rest of the batch is done from the start.
  `max_tokens` is one number, or one for each prompt. Sample i of a prompt draws with a
  key made of the seed and i alone: what else is in the batch changes nothing, and the
  same prompt twice gives the same text twice (ask for n=2 instead).
  A model with an encoder reads a source for each prompt, and the prompts begin what it
  writes. Raises Mistake for settings that make no sense and for what the context of
  the model cannot hold.
  """
  sampling = sampling or Sampling(temperature=0.0)
  check(sampling)
  limits = np.broadcast_to(np.asarray(max_tokens, np.int32), (len(prompts),))
  check_room(model, prompts, limits, n)
  tokens_PT, lengths_P = pad_prompts(prompts)
  T = bucket(int(limits.max()))
  source, size = pad_sources(model, sources, len(tokens_PT)), tokens_PT.shape[1] + T
  cache, seen_PV = prefill(model, params, tokens_PT, lengths_P, source, size=size)
  # Of P prompts, padded, into B rows, padded.
  rows = len(prompts) * n
  index_B = np.arange(bucket(rows, 1))
  from_B = np.minimum(index_B // n, len(prompts) - 1)
  if n > 1:  # one row of the cache for each sample of a prompt
    cache = _take(cache, from_B)
  state = _begin(
    seen_PV,
    from_B,
    rng.stream(jax.random.key(seed), "sample"),
    index_B % n,
    T=T,
    sampling=sampling.rows(rows, index_B.size),
    prompts_B=lengths_P[from_B],
    limits_B=limits[from_B],
    stops_C=stop_row(stops),
    last_B=tokens_PT[from_B, lengths_P[from_B] - 1],
    done_B=index_B >= rows,
    scored=np.bool_(logprobs),
  )
  return state.replace(cache=cache)


def advance(model, params, state: State, until: int) -> State:
  """The state once `until` tokens are there, or all rows are done. Eats `state`."""
  return _loop(model, params, state, jnp.int32(until))


def halt(state: State, rows_B) -> State:
  """The state with these rows done: somebody saw the end of them (a stop string)."""
  ended_B = jnp.zeros_like(state.done_B).at[: len(rows_B)].set(jnp.asarray(rows_B))
  return state.replace(done_B=state.done_B | ended_B)


def read(state: State, rows: int) -> Output:
  """The first `rows` rows so far; Mistake if the model gave NaN."""
  wanted = (
    state.ids_BT,
    state.counts_B,
    state.stopped_B,
    state.done_B,
    state.logprobs_BT,
    state.finite,
  )
  ids_BT, lengths_B, stopped_B, done_B, logprobs_BT, finite = jax.device_get(wanted)
  if not finite:
    raise Mistake(
      "the model's logits are NaN, so there is nothing to choose from; "
      "look at the parameters (a run that diverged, a damaged file?)"
    )
  ends = zip(stopped_B, done_B, strict=True)
  reasons = ["stop" if s else "length" if d else None for s, d in ends]
  return Output(
    ids_BT[:rows], lengths_B[:rows], tuple(reasons[:rows]), logprobs_BT[:rows]
  )


def generate(model, params, prompts, *, max_tokens, n=1, **options) -> Output:
  """The whole continuations of prompts of ids; the options are those of `start`."""
  state = start(model, params, prompts, max_tokens=max_tokens, n=n, **options)
  state = advance(model, params, state, int(np.max(max_tokens)))
  return read(state, len(prompts) * n)
