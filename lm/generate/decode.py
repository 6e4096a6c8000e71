"""Decoding: prompts of ids in, continuations of ids out, in a loop on the device.

    slots = start(model, params, prompts, max_tokens=64)
    slots = advance(model, params, slots, 16)
    read(slots, len(prompts)).ids_BT

`start` reads the prompts, all but their last tokens; `advance` runs the compiled loop,
which begins with those, for a number of tokens or until every row is done; see
lm/generate/slots.py. One call of `advance` or several give the same tokens, so
streaming is the same code. Nothing here knows text.

Shapes are rounded up to buckets and everything else (lengths, limits, temperatures,
seeds, stop ids) is an argument, so a new prompt or setting does not compile again.
Prompts are padded on the right with positions of -1, which nobody attends to.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake
from lm.generate import slots as slots_
from lm.generate.edges import Forced
from lm.generate.prompts import (
  bucket,
  pad_drawable,
  pad_prompts,
  pad_sources,
  pad_stops,
  validate_request,
)
from lm.generate.sample import Sampling, validate
from lm.generate.slots import Slots, advance, forward, retire
from lm.nn.depth import split
from lm.platform import narrow

__all__ = ["advance", "forward", "retire"]

NAN = (
  "the model's logits are NaN, so there is nothing to choose from; "
  "look at the parameters (a run that diverged, a damaged file?)"
)


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
  """Returns (a cache of `size` columns, seen_BV) of B prompts with these lengths.

  The cache holds all tokens but the last of each row, which is left to the loop, so
  that choosing a token is compiled once; seen_BV marks all tokens. `source` holds the
  arrays that some models read besides, see `pad_sources`.
  """
  B, T = tokens_BT.shape
  index_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
  read_B = lengths_B - 1
  x_BTD, cache, _ = model.apply(
    {"params": params},
    tokens_BT,
    positions_BT=jnp.where(index_BT < read_B[:, None], index_BT, -1),
    cache=model.init_cache(B, size),
    method="features",
    **source,
  )
  readout = functools.partial(model.apply, method="readout")
  V = jax.eval_shape(readout, {"params": params}, x_BTD).shape[-1]
  # Padding counts as the first token of the row, which has been seen anyway.
  real_BT = index_BT < lengths_B[:, None]
  shown_BT = jnp.where(real_BT, tokens_BT, tokens_BT[:, :1])
  seen_BV = jnp.zeros((B, V), bool).at[jnp.arange(B)[:, None], shown_BT].set(True)
  return cache.ended(read_B), seen_BV


_take = jax.jit(lambda tree, rows_B: tree.take(rows_B))


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
) -> Slots:
  """Returns the slots before the first token of `n` continuations of every prompt.

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
  rows, V = len(prompts) * n, seen_RV.shape[1]
  index_B = np.arange(bucket(rows, 1))
  prompt_B = np.minimum(index_B // n, len(prompts) - 1)
  if n > 1:  # one row of the cache for each sample of a prompt
    cache = _take(cache, prompt_B)
  B = index_B.size
  return slots_.begin(
    cache,
    T=T,
    sampling=sampling.rows(rows, B),
    keys_B=slots_.root_keys(seed, index_B % n),
    prompt_lengths_B=lengths_R[prompt_B],
    limits_B=limits[prompt_B],
    stops_BO=np.tile(pad_stops(stops), (B, 1)),
    bias_BV=np.tile(pad_drawable(drawable, V), (B, 1)),
    forced=Forced.of(*(forced or ((), None)), len(tokens_RT)).take(prompt_B),
    seen_BV=seen_RV[prompt_B],
    last_B=tokens_RT[prompt_B, lengths_R[prompt_B] - 1],
    done_B=index_B >= rows,
    scored_B=np.full(B, logprobs),
  )


def read(slots: Slots, rows: int) -> Continuations:
  """Returns the first `rows` rows so far; raises Mistake if a logit was NaN."""
  drawn = slots_.read(slots)
  reasons = drawn.reasons[:rows]
  if "nan" in reasons:
    raise Mistake(NAN)
  return Continuations(
    drawn.ids_BT[:rows], drawn.counts_B[:rows], reasons, drawn.logprobs_BT[:rows]
  )


def generate(model, params, prompts, *, max_tokens, n=1, **options) -> Continuations:
  """Returns whole continuations of prompts of ids; the options are those of `start`."""
  slots = start(model, params, prompts, max_tokens=max_tokens, n=n, **options)
  slots = advance(model, params, slots, int(np.max(max_tokens)))
  return read(slots, len(prompts) * n)
