"""Beam search over ids: the likeliest whole continuations, not the likeliest steps.

As `transformers` does it (early_stopping="never"): a hypothesis scores the sum of its
log-probabilities over length**length_penalty, its stop id counted; each step looks at
the best continuations of all beams of a prompt; a prompt is finished when its Z
hypotheses beat whatever a live beam could still become. The Z beams of all B prompts
are the R = B*Z rows of one batch, and the loop is compiled whole.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from lm.errors import Mistake
from lm.generate.decode import prefill
from lm.generate.edges import NONE, Forced, is_stop
from lm.generate.prompts import (
  bucket,
  pad_drawable,
  pad_prompts,
  pad_sources,
  validate_request,
)
from lm.generate.slots import forward
from lm.platform import narrow


@struct.dataclass
class Beams:
  """Z sequences for each prompt, best first."""

  ids_BZT: jax.Array
  lengths_BZ: jax.Array
  scores_BZ: jax.Array  # -inf where there is no sequence

  def take(self, index_BZ):
    """Returns the sequences with these indices among the Z of their prompt."""
    return jax.tree.map(lambda x: _gather(x, index_BZ), self)


@struct.dataclass
class Search:
  """The state of beam search between two tokens."""

  cache: Any  # of B*Z rows
  live: Beams  # scored by the plain sum of log-probabilities
  ended: Beams  # scored by that sum over length**penalty
  stopped_BZ: jax.Array  # ended by a stop id, not by the limit
  open_B: jax.Array  # a live beam could still win
  last_BZ: jax.Array  # the newest tokens, which the model reads next
  step: jax.Array


@dataclass(frozen=True)
class Hypotheses:
  """The best continuations of every prompt, best first, as numpy arrays."""

  ids_BZT: np.ndarray
  lengths_BZ: np.ndarray  # the stop id is counted; 0 where there is no hypothesis
  scores_BZ: np.ndarray
  stopped_BZ: np.ndarray


def _gather(x, index_BZ):
  """x[b, index_BZ[b]] for every prompt b."""
  index = index_BZ.reshape(index_BZ.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1)


def _extend(live: Beams, scores_BZV, step, count):
  """Returns (candidates, parents_BO, tokens_BO): the `count` best continuations.

  `candidates` are Beams with O = `count` in the place of Z; parents_BO are the beams
  that they extend, tokens_BO their new tokens.
  """
  B, Z, V = scores_BZV.shape
  total_BZV = live.scores_BZ[:, :, None] + scores_BZV
  scores_BO, index_BO = lax.top_k(total_BZV.reshape(B, Z * V), count)
  parents_BO, tokens_BO = index_BO // V, index_BO % V
  parents = live.take(parents_BO)
  corner = (0, 0, step)
  ids_BOT = lax.dynamic_update_slice(parents.ids_BZT, tokens_BO[:, :, None], corner)
  return Beams(ids_BOT, parents.lengths_BZ + 1, scores_BO), parents_BO, tokens_BO


def _select(search: Search, scores_BZV, stop_ids, limit, penalty):
  """The search one token later, its cache reordered to follow the beams."""
  s, (B, Z, V) = search, scores_BZV.shape
  step = s.step + 1
  # Enough that Z of them stay live even if every beam's best token is a stop id.
  count = min((1 + stop_ids.size) * Z, Z * V)
  candidates, parents_BO, tokens_BO = _extend(s.live, scores_BZV, s.step, count)
  stop_BO = is_stop(tokens_BO, stop_ids[None, None])
  ends_BO = stop_BO | (step >= limit)

  live_scores_BO = jnp.where(ends_BO, -jnp.inf, candidates.scores_BZ)
  scores_BZ, index_BZ = lax.top_k(live_scores_BO, Z)
  live = candidates.take(index_BZ).replace(scores_BZ=scores_BZ)
  parents_BZ = jnp.take_along_axis(parents_BO, index_BZ, axis=1)

  # Only the Z best may end: the others are there to replace those that do.
  ends_BO &= (jnp.arange(count) < Z)[None] & s.open_B[:, None]
  final_BO = jnp.where(ends_BO, candidates.scores_BZ / step**penalty, -jnp.inf)
  ended, stopped = jax.tree.map(
    lambda old, new: jnp.concatenate([old, new], axis=1),
    (s.ended, s.stopped_BZ),
    (candidates.replace(scores_BZ=final_BO), stop_BO),
  )
  _, best_BZ = lax.top_k(ended.scores_BZ, Z)
  ended, stopped_BZ = ended.take(best_BZ), _gather(stopped, best_BZ)

  # Log-probabilities are negative: with a positive penalty the longest scores best.
  longest = jnp.where(penalty > 0, limit, step)
  bound_B = live.scores_BZ[:, 0] / longest**penalty
  open_B = s.open_B & (bound_B > jnp.min(ended.scores_BZ, axis=1))
  rows_BZ = jnp.arange(B)[:, None] * Z + parents_BZ
  cache = s.cache.take(rows_BZ.reshape(B * Z))
  last_BZ = jnp.take_along_axis(tokens_BO, index_BZ, axis=1)
  return Search(cache, live, ended, stopped_BZ, open_B, last_BZ, step)


def _with_forced(scores_BZV, forced_B):
  """The scores where a token is forced: 0 for it and -inf for all others."""
  ids_11V = jnp.arange(scores_BZV.shape[-1])[None, None]
  forced_B11 = forced_B[:, None, None]
  only_B1V = jnp.where(ids_11V == forced_B11, 0, -jnp.inf)
  return jnp.where(forced_B11 == NONE, scores_BZV, only_B1V)


@functools.partial(jax.jit, static_argnames=("model", "Z", "T"))
def _search(
  model,
  params,
  cache,
  prompt,
  *,
  open_B,
  stop_ids,
  bias_V,
  forced,
  limit,
  penalty,
  Z,
  T,
):
  """The search at its end; `prompt` is (lengths_B, the last tokens) of the prompts."""
  lengths_B, last_B = prompt
  B = last_B.size
  empty = Beams(
    jnp.zeros((B, Z, T), jnp.int32),
    jnp.zeros((B, Z), jnp.int32),
    jnp.full((B, Z), -jnp.inf),
  )
  # At first all beams are the same: only the first may be continued.
  first = empty.replace(scores_BZ=empty.scores_BZ.at[:, 0].set(0))
  search = Search(
    cache.take(jnp.repeat(jnp.arange(B), Z)),
    live=first,
    ended=empty,
    stopped_BZ=jnp.zeros((B, Z), bool),
    open_B=open_B,
    last_BZ=jnp.broadcast_to(last_B[:, None], (B, Z)),
    step=jnp.int32(0),
  )
  lengths_R = jnp.repeat(lengths_B, Z)

  def unfinished(s):
    return (s.step < limit) & jnp.any(s.open_B)

  def body(s):
    logits_RV, cache = forward(
      model, params, s.last_BZ.reshape(B * Z), lengths_R - 1 + s.step, s.cache
    )
    logits_BZV = logits_RV.reshape(B, Z, -1)
    # -inf where a beam may not go on, whatever it would score there.
    scores_BZV = jax.nn.log_softmax(logits_BZV) + bias_V[None, None]
    scores_BZV = _with_forced(scores_BZV, forced.ids(s.step, s.step + 1 == limit))
    return _select(s.replace(cache=cache), scores_BZV, stop_ids, limit, penalty)

  return lax.while_loop(unfinished, body, search)


@narrow
def generate(
  model,
  params,
  prompts,
  *,
  max_tokens,
  beams,
  length_penalty=1.0,
  stops=(),
  drawable=None,
  forced=None,
  sources=None,
) -> Hypotheses:
  """Returns the `beams` best continuations of every prompt of ids.

  `length_penalty` above 0 favours long ones, below 0 short ones; `stops`, `drawable`,
  `forced` and `sources` are as in `decode.start`. Raises Mistake for settings out of
  range and for a request that the context of the model cannot hold.
  """
  if beams < 1:
    raise Mistake(f"beams must be 1 or more, got {beams}")
  validate_request(model, prompts, [max_tokens] * len(prompts), 1)
  tokens_BT, lengths_B = pad_prompts(prompts)
  T = bucket(max_tokens)
  source, size = pad_sources(model, sources, len(tokens_BT)), tokens_BT.shape[1] + T
  cache, seen_BV = prefill(model, params, tokens_BT, lengths_B, source, size=size)
  search = _search(
    model,
    params,
    cache,
    (lengths_B, tokens_BT[np.arange(len(lengths_B)), lengths_B - 1]),
    open_B=np.arange(len(lengths_B)) < len(prompts),
    stop_ids=np.array(sorted(stops), np.int32),
    bias_V=pad_drawable(drawable, seen_BV.shape[1]),
    forced=Forced.of(*(forced or ((), None)), len(tokens_BT)),
    limit=np.int32(max_tokens),
    penalty=np.float32(length_penalty),
    Z=beams,
    T=T,
  )
  ended, stopped_BZ = jax.device_get((search.ended, search.stopped_BZ))
  if not np.isfinite(ended.scores_BZ[: len(prompts), 0]).all():
    raise Mistake(
      "beam search found nothing: the model's logits are not finite; "
      "look at the parameters (a run that diverged, a damaged file?)"
    )
  exists_BZ = np.isfinite(ended.scores_BZ)
  rows = slice(len(prompts))
  return Hypotheses(
    ended.ids_BZT[rows],
    np.where(exists_BZ, ended.lengths_BZ, 0)[rows],
    ended.scores_BZ[rows],
    stopped_BZ[rows],
  )
