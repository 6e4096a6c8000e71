"""Decoding: prompts of ids in, continuations of ids out, in a loop on the device.

    decoding = start(model, params, prompts, max_tokens=64)
    decoding = advance(model, params, decoding, 16)
    read(decoding, len(prompts)).ids_BT

`start` reads the prompts, all but their last tokens; `advance` runs the compiled loop,
which begins with those, until a given number of tokens or until every row is done.
One call of `advance` or several give the same tokens, so streaming is the same code.
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
from lm.generate.edges import Forced, is_stop
from lm.generate.prompts import (
  bucket,
  pad_drawable,
  pad_prompts,
  pad_sources,
  pad_stops,
  validate_request,
)
from lm.generate.sample import Sampling, choose, validate
from lm.nn.depth import split
from lm.platform import narrow


@struct.dataclass
class Decoding:
  """The state of a generation between two tokens: B rows of at most T new tokens."""

  cache: Any
  sampling: Sampling
  keys_B: jax.Array
  prompt_lengths_B: jax.Array
  limits_B: jax.Array  # the most tokens a row may get
  stops_O: jax.Array  # ids that end a row
  drawable_V: jax.Array  # False for ids that no token may have
  forced: Forced  # ids that rows begin and end with
  step: jax.Array  # tokens generated so far by the rows that are not done
  last_B: jax.Array  # the newest token of each row, which the model reads next
  done_B: jax.Array
  stopped_B: jax.Array  # done by a stop id
  finite: jax.Array  # no logit was NaN so far
  seen_BV: jax.Array  # tokens of the prompt and of the continuation
  ids_BT: jax.Array
  lengths_B: jax.Array  # tokens generated, the stop id included
  logprobs_BT: jax.Array
  scored: jax.Array  # True if logprobs_BT is wanted


@dataclass(frozen=True)
class Continuations:
  """Generated ids as numpy arrays; entries beyond the length of a row mean nothing."""

  ids_BT: np.ndarray
  lengths_B: np.ndarray  # the stop id is counted
  reasons: tuple  # "stop" or "length" for each row; None while it is not done
  logprobs_BT: np.ndarray  # of the tokens, under the model itself; 0 unless requested


@narrow
def prepare_params(model, params):
  """Returns the parameters in the form that the loop runs fastest with.

  For an unrolled model that is one array a layer, so that no step slices a stack. Call
  it once, not for every generation.
  """
  return params if model.config.run.scan else split(params)


@functools.partial(jax.jit, static_argnames=("model", "size"))
def prefill(model, params, tokens_BT, lengths_B, source, *, size):
  """Returns (a cache of `size` slots, seen_BV) of B prompts with these lengths.

  The cache holds all tokens but the last of each row, which is left to the loop, so
  that choosing a token is compiled once; seen_BV marks all tokens. `source` holds the
  arrays that some models read besides, see `pad_sources`.
  """
  B, T = tokens_BT.shape
  index_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  x_BTD, cache, _ = model.apply(
    {"params": params},
    tokens_BT,
    positions_BT=jnp.where(index_BT < lengths_B[:, None] - 1, index_BT, -1),
    cache=model.init_cache(B, size),
    method="features",
    **source,
  )
  readout = functools.partial(model.apply, method="readout")
  V = jax.eval_shape(readout, {"params": params}, x_BTD).shape[-1]
  # Padding counts as the first token of the row, which has been seen anyway.
  real_BT = index_BT < lengths_B[:, None]
  shown_BT = jnp.where(real_BT, tokens_BT, tokens_BT[:, :1])
  return cache, jnp.zeros((B, V), bool).at[jnp.arange(B)[:, None], shown_BT].set(True)


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


def _logprobs(logits_BV, tokens_B):
  chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=1)[:, 0]
  return chosen_B - jax.nn.logsumexp(logits_BV, axis=1)


def _append(decoding: Decoding, logits_BV) -> Decoding:
  """The state with one more token in each row, chosen from the logits."""
  d = decoding
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(d.keys_B, d.step)
  drawable_BV = jnp.where(d.drawable_V[None], logits_BV, -jnp.inf)
  tokens_B = choose(drawable_BV, d.seen_BV, keys_B, d.sampling)
  live_B, is_last_B = ~d.done_B, d.lengths_B + 1 == d.limits_B
  tokens_B = jnp.where(live_B, d.forced.over(tokens_B, d.step, is_last_B), 0)
  stopped_B = live_B & is_stop(tokens_B, d.stops_O)
  lengths_B = d.lengths_B + live_B
  logprobs_B = lax.cond(
    d.scored,
    lambda: _logprobs(logits_BV, tokens_B) * live_B,
    lambda: jnp.zeros(tokens_B.shape, jnp.float32),
  )
  corner = (0, d.step)
  return d.replace(
    step=d.step + 1,
    last_B=tokens_B,
    done_B=d.done_B | stopped_B | (lengths_B >= d.limits_B),
    stopped_B=d.stopped_B | stopped_B,
    finite=d.finite & ~jnp.any(live_B & jnp.isnan(jnp.max(logits_BV, axis=1))),
    seen_BV=d.seen_BV.at[jnp.arange(tokens_B.size), tokens_B].set(True),
    ids_BT=lax.dynamic_update_slice(d.ids_BT, tokens_B[:, None], corner),
    lengths_B=lengths_B,
    logprobs_BT=lax.dynamic_update_slice(d.logprobs_BT, logprobs_B[:, None], corner),
  )


@functools.partial(jax.jit, static_argnames="T")
def _begin(seen_RV, prompt_B, root_key, samples_B, *, T, **fields):
  """The state before the first token, without its cache.

  Row b is sample `samples_B[b]` of prompt `prompt_B[b]`.
  """
  B = prompt_B.size
  return Decoding(
    cache=None,
    keys_B=jax.vmap(jax.random.fold_in, (None, 0))(root_key, samples_B),
    step=jnp.int32(0),
    stopped_B=jnp.zeros(B, bool),
    finite=jnp.bool_(True),
    seen_BV=seen_RV[prompt_B],
    ids_BT=jnp.zeros((B, T), jnp.int32),
    lengths_B=jnp.zeros(B, jnp.int32),
    logprobs_BT=jnp.zeros((B, T), jnp.float32),
    **fields,
  )


_take = jax.jit(lambda cache, rows_B: cache.take(rows_B))


@functools.partial(jax.jit, static_argnames="model", donate_argnames="decoding")
def _loop(model, params, decoding, until):
  def unfinished(d):
    return (d.step < until) & ~jnp.all(d.done_B)

  def body(d):
    # Rows that are done are computed too; their positions stay within their limits.
    new_B = jnp.minimum(d.step, d.limits_B - 1)
    positions_B = d.prompt_lengths_B - 1 + new_B
    logits_BV, cache = forward(model, params, d.last_B, positions_B, d.cache)
    return _append(d.replace(cache=cache), logits_BV)

  return lax.while_loop(unfinished, body, decoding)


@narrow
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
  drawable=None,
  forced=None,
  logprobs=False,
  sources=None,
) -> Decoding:
  """Returns the state before the first token of `n` continuations of every prompt.

  Prompts are sequences of ids. Rows are ordered by prompt, then sample; padding rows
  are done from the start. `max_tokens` is one number, or one for each prompt;
  `sampling` is greedy by default; `stops` are ids that end a row; `drawable` says of
  the first ids which may be drawn, and no others are; `forced` is (the first id of each
  prompt's texts, or None; the last id of texts that their limit ends, or None);
  `logprobs=True` also records the log-probability of every token. Sample i of a prompt
  draws with a key made of the seed and i alone: other rows of the batch change nothing,
  and the same prompt twice gives the same text twice (ask for n=2 instead). A model
  with an encoder reads `sources`, one for each prompt; the prompts then begin what it
  writes. Raises Mistake for settings out of range and for a request that the context of
  the model cannot hold.
  """
  sampling = sampling or Sampling(temperature=0.0)
  validate(sampling)
  limits = np.broadcast_to(np.asarray(max_tokens, np.int32), (len(prompts),))
  validate_request(model, prompts, limits, n)
  tokens_RT, lengths_R = pad_prompts(prompts)
  T = bucket(int(limits.max()))
  source, size = pad_sources(model, sources, len(tokens_RT)), tokens_RT.shape[1] + T
  cache, seen_RV = prefill(model, params, tokens_RT, lengths_R, source, size=size)
  # Of R prompts, padded, into B rows, padded.
  rows = len(prompts) * n
  index_B = np.arange(bucket(rows, 1))
  prompt_B = np.minimum(index_B // n, len(prompts) - 1)
  if n > 1:  # one row of the cache for each sample of a prompt
    cache = _take(cache, prompt_B)
  decoding = _begin(
    seen_RV,
    prompt_B,
    rng.stream(jax.random.key(seed), "sample"),
    index_B % n,
    T=T,
    sampling=sampling.rows(rows, index_B.size),
    prompt_lengths_B=lengths_R[prompt_B],
    limits_B=limits[prompt_B],
    stops_O=pad_stops(stops),
    drawable_V=pad_drawable(drawable, seen_RV.shape[1]),
    forced=Forced.of(*(forced or ((), None)), len(tokens_RT)).take(prompt_B),
    last_B=tokens_RT[prompt_B, lengths_R[prompt_B] - 1],
    done_B=index_B >= rows,
    scored=np.bool_(logprobs),
  )
  return decoding.replace(cache=cache)


@narrow
def advance(model, params, decoding: Decoding, until: int) -> Decoding:
  """Returns the state once rows have `until` tokens or are done; donates `decoding`."""
  return _loop(model, params, decoding, jnp.int32(until))


@narrow
def halt(decoding: Decoding, ended) -> Decoding:
  """Returns the state with more rows done, such as those that met a stop string.

  `ended` is a sequence of booleans, one for each of the first rows.
  """
  ended_B = jnp.zeros_like(decoding.done_B).at[: len(ended)].set(jnp.asarray(ended))
  return decoding.replace(done_B=decoding.done_B | ended_B)


@narrow
def read(decoding: Decoding, rows: int) -> Continuations:
  """Returns the first `rows` rows so far; raises Mistake if a logit was NaN."""
  d = decoding
  ids_BT, lengths_B, stopped_B, done_B, logprobs_BT, finite = jax.device_get(
    (d.ids_BT, d.lengths_B, d.stopped_B, d.done_B, d.logprobs_BT, d.finite)
  )
  if not finite:
    raise Mistake(
      "the model's logits are NaN, so there is nothing to choose from; "
      "look at the parameters (a run that diverged, a damaged file?)"
    )
  ends = zip(stopped_B, done_B, strict=True)
  reasons = ["stop" if stop else "length" if done else None for stop, done in ends]
  return Continuations(
    ids_BT[:rows], lengths_B[:rows], tuple(reasons[:rows]), logprobs_BT[:rows]
  )


def generate(model, params, prompts, *, max_tokens, n=1, **options) -> Continuations:
  """Returns whole continuations of prompts of ids; the options are those of `start`."""
  decoding = start(model, params, prompts, max_tokens=max_tokens, n=n, **options)
  decoding = advance(model, params, decoding, int(np.max(max_tokens)))
  return read(decoding, len(prompts) * n)
