"""Slots: rows of a batch that each write a text of their own, token by token.

    slots = begin(...)                          # some rows, or `empty` ones
    slots = admit(slots, row, one)              # a row of it, from slots of one row
    slots = advance(model, params, slots, 16)   # the compiled loop: 16 tokens a row
    drawn = read(slots)

Every row has its own place, length, limit, settings and key, so its tokens depend
neither on its neighbours nor on when it came. Rows that are done are computed too, as
padding. Nothing here knows text, or how a prompt was read into the cache.

Everything but the number of rows and of columns is an argument of the loop, so a new
setting does not compile again.
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
from lm.generate.edges import Forced, is_stop
from lm.generate.sample import Sampling, choose
from lm.platform import narrow


@struct.dataclass
class Slots:
  """B rows between two tokens; their newest T tokens, O likeliest ids to each."""

  cache: Any
  sampling: Sampling
  keys_B: jax.Array
  prompt_lengths_B: jax.Array
  limits_B: jax.Array  # the most tokens a row may get
  stops_BO: jax.Array  # ids that end a row; -1 is none
  bias_BV: jax.Array  # added to the logits; -inf for ids that no token may be
  forced: Forced  # ids that rows begin and end with
  seen_BV: jax.Array  # tokens of the prompt
  counts_BV: jax.Array  # of the tokens generated
  last_B: jax.Array  # the newest token of each row, which the model reads next
  lengths_B: jax.Array  # tokens generated, the stop id included
  starts_B: jax.Array  # how many of them came before the columns here
  done_B: jax.Array
  stopped_B: jax.Array  # done by a stop id
  finite_B: jax.Array  # no logit was NaN so far
  scored_B: jax.Array  # True if log-probabilities are wanted
  ids_BT: jax.Array
  logprobs_BT: jax.Array
  top_ids_BTO: jax.Array
  top_logprobs_BTO: jax.Array


@dataclass(frozen=True)
class Drawn:
  """The ids in the columns, as numpy arrays; entries beyond `counts_B` mean nothing."""

  ids_BT: np.ndarray
  counts_B: np.ndarray  # the stop id is counted
  reasons: tuple  # "stop", "length" or "nan" for each row; None while it is not done
  logprobs_BT: np.ndarray  # under the model itself; 0 unless requested
  top_ids_BTO: np.ndarray
  top_logprobs_BTO: np.ndarray


def root_keys(seed: int, samples_B):
  """Returns the keys of texts: those of a seed, a number each."""
  return _folded(rng.stream(jax.random.key(seed), "sample"), samples_B)


_folded = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))


def begin(cache, *, T: int, top: int = 0, **fields) -> Slots:
  """Returns slots of B rows before their first token, with T columns.

  `cache` has read all tokens of the prompts but the last ones; `fields` are those of
  `Slots` that say what is wanted, `done_B` among them.
  """
  # The cache does not pass through a compiled function, which would copy it.
  return _begun(T=T, top=top, **fields).replace(cache=cache)


@functools.partial(jax.jit, static_argnames=("T", "top"))
def _begun(*, T: int, top: int, **fields) -> Slots:
  (B,), zeros = fields["last_B"].shape, jnp.zeros
  return Slots(
    cache=None,
    counts_BV=zeros(fields["seen_BV"].shape, jnp.int32),
    lengths_B=zeros(B, jnp.int32),
    starts_B=zeros(B, jnp.int32),
    stopped_B=zeros(B, bool),
    finite_B=jnp.ones(B, bool),
    ids_BT=zeros((B, T), jnp.int32),
    logprobs_BT=zeros((B, T), jnp.float32),
    top_ids_BTO=zeros((B, T, top), jnp.int32),
    top_logprobs_BTO=zeros((B, T, top), jnp.float32),
    **fields,
  )


@functools.partial(jax.jit, donate_argnames="slots")
def admit(slots: Slots, row, one: Slots) -> Slots:
  """Returns the slots with the only row of `one` as a row."""
  put = lambda x, y: x.at[row].set(y[0])
  rest = jax.tree.map(put, slots.replace(cache=None), one.replace(cache=None))
  return rest.replace(cache=slots.cache.put(row, one.cache))


@functools.partial(jax.jit, donate_argnames="slots")
def hold(slots: Slots, row, bias_V) -> Slots:
  """Returns the slots with other numbers added to the logits of a row."""
  return slots.replace(bias_BV=slots.bias_BV.at[row].set(bias_V))


def forward(model, params, tokens_B, positions_B, cache):
  """Returns (logits_BV, cache) after one more token in each row."""
  x_B1D, cache, _ = model.apply(
    {"params": params},
    tokens_B[:, None],
    positions_BT=positions_B[:, None],
    cache=cache,
    method="features",
  )
  return model.apply({"params": params}, x_B1D, method="readout")[:, 0], cache


def scores(logits, ids, top: int):
  """Returns (the log-probabilities of ids, the `top` likeliest ids and theirs).

  `ids` has the shape of `logits` but for its last dimension, V.
  """
  total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1, mode="clip") - total
  best, best_ids = lax.top_k(logits, top)
  return chosen[..., 0], best_ids, best - total


@functools.partial(jax.jit, static_argnames="model", donate_argnames="slots")
def _loop(model, params, slots, steps):
  def unfinished(state):
    step, s = state
    return (step < steps) & ~jnp.all(s.done_B)

  def body(state):
    step, s = state
    places_B = s.prompt_lengths_B - 1 + s.lengths_B
    positions_B = jnp.where(s.done_B, -1, places_B)
    logits_BV, cache = forward(model, params, s.last_B, positions_B, s.cache)
    return step + 1, _append(s.replace(cache=cache), logits_BV)

  return lax.while_loop(unfinished, body, (jnp.int32(0), slots))[1]


def _append(slots: Slots, logits_BV, live_B=None) -> Slots:
  """The slots with one more token in live rows, chosen from the logits."""
  s, rows_B = slots, jnp.arange(slots.done_B.size)
  live_B = ~s.done_B if live_B is None else live_B & ~s.done_B
  is_last_B = s.lengths_B + 1 == s.limits_B
  keys_B = jax.vmap(jax.random.fold_in)(s.keys_B, s.lengths_B)
  tokens_B = choose(
    logits_BV + s.bias_BV, keys_B, s.sampling, seen_BV=s.seen_BV, counts_BV=s.counts_BV
  )
  forced_B = s.forced.over(tokens_B, s.lengths_B, is_last_B)
  tokens_B = jnp.where(live_B, forced_B, 0)
  finite_B = ~(live_B & jnp.isnan(jnp.max(logits_BV, axis=1)))
  stopped_B = live_B & is_stop(tokens_B, s.stops_BO)
  lengths_B = s.lengths_B + live_B
  column_B = jnp.where(live_B, s.lengths_B - s.starts_B, s.ids_BT.shape[1])
  put = lambda x, new: x.at[rows_B, column_B].set(new, mode="drop")

  def scored():
    top = s.top_ids_BTO.shape[-1]
    logprobs_B, ids_BO, logprobs_BO = scores(logits_BV, tokens_B, top)
    return (
      put(s.logprobs_BT, logprobs_B),
      put(s.top_ids_BTO, ids_BO),
      put(s.top_logprobs_BTO, logprobs_BO),
    )

  kept = (s.logprobs_BT, s.top_ids_BTO, s.top_logprobs_BTO)
  logprobs_BT, top_ids_BTO, top_logprobs_BTO = lax.cond(
    jnp.any(live_B & s.scored_B), scored, lambda: kept
  )
  return s.replace(
    counts_BV=s.counts_BV.at[rows_B, tokens_B].add(live_B),
    last_B=jnp.where(live_B, tokens_B, s.last_B),
    lengths_B=lengths_B,
    done_B=s.done_B | stopped_B | (lengths_B >= s.limits_B) | ~finite_B,
    stopped_B=s.stopped_B | stopped_B,
    finite_B=s.finite_B & finite_B,
    ids_BT=put(s.ids_BT, tokens_B),
    logprobs_BT=logprobs_BT,
    top_ids_BTO=top_ids_BTO,
    top_logprobs_BTO=top_logprobs_BTO,
  )


@narrow
def advance(model, params, slots: Slots, steps: int) -> Slots:
  """Returns the slots once rows have `steps` more tokens or are done; donates them.

  No row may have more of them than its columns hold.
  """
  return _loop(model, params, slots, jnp.int32(steps))


@functools.partial(jax.jit, static_argnames="model", donate_argnames="slots")
def _check(model, params, slots, guesses_BQ):
  s, (B, Q) = slots, guesses_BQ.shape
  tokens_BT = jnp.concatenate([s.last_B[:, None], guesses_BQ], axis=1)
  places_BT = (s.prompt_lengths_B - 1 + s.lengths_B)[:, None] + jnp.arange(Q + 1)[None]
  is_real_BT = ~s.done_B[:, None] & (tokens_BT >= 0)
  x_BTD, cache, _ = model.apply(
    {"params": params},
    jnp.maximum(tokens_BT, 0),
    positions_BT=jnp.where(is_real_BT, places_BT, -1),
    cache=s.cache,
    method="features",
  )
  logits_BTV = model.apply({"params": params}, x_BTD, method="readout")
  s, is_right_B = s.replace(cache=cache), jnp.ones(B, bool)
  for t in range(Q + 1):
    s = _append(s, logits_BTV[:, t], is_right_B)
    if t < Q:
      is_right_B &= s.last_B == guesses_BQ[:, t]
  return s.replace(cache=s.cache.ended(s.prompt_lengths_B - 1 + s.lengths_B))


@narrow
def check(model, params, slots: Slots, guesses_BQ) -> Slots:
  """Returns the slots with the tokens that `advance` would write; donates them.

  It reads Q guesses of each row's next tokens at once and writes as far as they are
  right, and the one behind: 1 to Q + 1 tokens, by the same settings and keys. A guess
  of -1 is none. The columns and the cache have room for Q + 1 more tokens in each row,
  and the cache takes tokens back (`rewinds`).
  """
  return _check(model, params, slots, guesses_BQ)


@narrow
def retire(slots: Slots, done_B) -> Slots:
  """Returns the slots with more rows done; `done_B` may leave out the last rows."""
  done_B = np.asarray(done_B, bool)
  done_B = np.pad(done_B, (0, slots.done_B.size - done_B.size))
  return slots.replace(done_B=slots.done_B | done_B)


@functools.partial(jax.jit, donate_argnames="slots")  # else the cache is copied
def drained(slots: Slots) -> Slots:
  """Returns the slots with empty columns, once their ids were read; donates them."""
  return slots.replace(starts_B=slots.lengths_B)


@narrow
def read(slots: Slots) -> Drawn:
  """Returns the ids in the columns, and which rows are done."""
  s = slots
  numbers = (s.ids_BT, s.logprobs_BT, s.top_ids_BTO, s.top_logprobs_BTO)
  numbers = jax.device_get(numbers)
  counts_B, done_B, stopped_B, finite_B = jax.device_get(
    (s.lengths_B - s.starts_B, s.done_B, s.stopped_B, s.finite_B)
  )
  reasons = tuple(
    None if not done else "nan" if not finite else "stop" if stopped else "length"
    for done, finite, stopped in zip(done_B, finite_B, stopped_B, strict=True)
  )
  ids_BT, logprobs_BT, top_ids_BTO, top_logprobs_BTO = numbers
  return Drawn(ids_BT, counts_B, reasons, logprobs_BT, top_ids_BTO, top_logprobs_BTO)
