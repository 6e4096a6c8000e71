"""Beam search over ids: the likeliest whole continuations, not the likeliest steps.

As `transformers` does it (early_stopping="never"): a hypothesis scores the sum of its
log-probabilities over length**length_penalty, its stop id counted; each step looks at
the best continuations of all beams of a prompt; a prompt is finished when its W
hypotheses beat whatever a live beam could still become. All W beams of all prompts are
rows of one batch, and the loop is compiled whole. W is the number of beams.
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
from lm.generate.decode import forward, prefill
from lm.generate.prompts import bucket, check_room, pad_prompts, pad_sources


@struct.dataclass
class Beams:
  """W sequences for each prompt, best first."""

  ids_BWT: jax.Array
  lengths_BW: jax.Array
  scores_BW: jax.Array  # -inf where there is none

  def take(self, index_BW):
    """The sequences with these indices."""
    return jax.tree.map(lambda x: _gather(x, index_BW), self)


@struct.dataclass
class Search:
  """What beam search carries from token to token."""

  cache: Any  # of B*W rows
  live: Beams  # scored by the plain sum of log-probabilities
  ended: Beams  # scored by that over length**penalty
  stopped_BW: jax.Array  # ended by a stop id, not by the limit
  open_B: jax.Array  # a live beam could still win
  last_BW: jax.Array  # the tokens to go on from
  step: jax.Array


@dataclass(frozen=True)
class Output:
  """The hypotheses of every prompt, best first, as numpy arrays."""

  ids_BWT: np.ndarray
  lengths_BW: np.ndarray  # the stop id is counted; 0 where there is no hypothesis
  scores_BW: np.ndarray
  stopped_BW: np.ndarray


def _gather(x, index_BW):
  index = index_BW.reshape(index_BW.shape + (1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, index, axis=1)


def _extend(live: Beams, logits_BWV, step, count):
  """The `count` best continuations of each prompt, the beams they extend, tokens."""
  B, W, V = logits_BWV.shape
  total_BWV = live.scores_BW[:, :, None] + jax.nn.log_softmax(logits_BWV)
  scores_BM, index_BM = lax.top_k(total_BWV.reshape(B, W * V), count)
  parents_BM, tokens_BM = index_BM // V, index_BM % V
  old = live.take(parents_BM)
  at = (0, 0, step)
  ids_BMT = lax.dynamic_update_slice(old.ids_BWT, tokens_BM[:, :, None], at)
  return Beams(ids_BMT, old.lengths_BW + 1, scores_BM), parents_BM, tokens_BM


def _select(search: Search, logits_BWV, stops_C, limit, penalty):
  """The search one token later, its cache reordered to follow the beams."""
  s, (B, W, V) = search, logits_BWV.shape
  step = s.step + 1
  # Enough that W of them go on even if every beam's best token is a stop id.
  count = min((1 + stops_C.size) * W, W * V)
  new, parents_BM, tokens_BM = _extend(s.live, logits_BWV, s.step, count)
  stop_BM = jnp.any(tokens_BM[:, :, None] == stops_C[None, None], axis=2)
  ends_BM = stop_BM | (step >= limit)

  goes_on_BM = jnp.where(ends_BM, -jnp.inf, new.scores_BW)
  scores_BW, index_BW = lax.top_k(goes_on_BM, W)
  live = new.take(index_BW).replace(scores_BW=scores_BW)
  parents_BW = jnp.take_along_axis(parents_BM, index_BW, axis=1)

  # Only the W best may end: the others are there to replace those that do.
  ends_BM &= (jnp.arange(count) < W)[None] & s.open_B[:, None]
  final_BM = jnp.where(ends_BM, new.scores_BW / step**penalty, -jnp.inf)
  both = jax.tree.map(
    lambda old, late: jnp.concatenate([old, late], axis=1),
    (s.ended, s.stopped_BW),
    (new.replace(scores_BW=final_BM), stop_BM),
  )
  _, best_BW = lax.top_k(both[0].scores_BW, W)
  ended, stopped_BW = both[0].take(best_BW), _gather(both[1], best_BW)

  # Log-probabilities are negative: with a positive penalty long is the best case.
  longest = jnp.where(penalty > 0, limit, step)
  hope_B = live.scores_BW[:, 0] / longest**penalty
  open_B = s.open_B & (hope_B > jnp.min(ended.scores_BW, axis=1))
  rows_BW = jnp.arange(B)[:, None] * W + parents_BW
  cache = s.cache.take(rows_BW.reshape(B * W))
  last_BW = jnp.take_along_axis(tokens_BM, index_BW, axis=1)
  return Search(cache, live, ended, stopped_BW, open_B, last_BW, step)


@functools.partial(jax.jit, static_argnames=("model", "W", "T"))
def _search(
  model, params, cache, prompts_B, last_B, *, open_B, stops_C, limit, penalty, W, T
):
  B = last_B.size
  none = Beams(
    jnp.zeros((B, W, T), jnp.int32),
    jnp.zeros((B, W), jnp.int32),
    jnp.full((B, W), -jnp.inf),
  )
  # At first all beams are the same: only one of them may be continued.
  one = none.replace(scores_BW=none.scores_BW.at[:, 0].set(0))
  search = Search(
    cache.take(jnp.repeat(jnp.arange(B), W)),
    live=one,
    ended=none,
    stopped_BW=jnp.zeros((B, W), bool),
    open_B=open_B,
    last_BW=jnp.broadcast_to(last_B[:, None], (B, W)),
    step=jnp.int32(0),
  )
  prompts_R = jnp.repeat(prompts_B, W)

  def going(s):
    return (s.step < limit) & jnp.any(s.open_B)

  def body(s):
    logits_RV, cache = forward(
      model, params, s.last_BW.reshape(B * W), prompts_R - 1 + s.step, s.cache
    )
    logits_BWV = logits_RV.reshape(B, W, -1)
    return _select(s.replace(cache=cache), logits_BWV, stops_C, limit, penalty)

  return lax.while_loop(going, body, search)


def generate(
  model,
  params,
  prompts,
  *,
  max_tokens,
  beams,
  length_penalty=1.0,
  stops=(),
  sources=None,
) -> Output:
  """The `beams` best continuations of every prompt of ids.

  `length_penalty` above 0 favours long ones, below 0 short ones; `sources` are as in
  `decode.start`. Raises Mistake for settings that make no sense and for what the
  context of the model cannot hold.
  """
  if beams < 1:
    raise Mistake(f"beams must be 1 or more, got {beams}")
  check_room(model, prompts, [max_tokens] * len(prompts), 1)
  tokens_BT, prompts_B = pad_prompts(prompts)
  T = bucket(max_tokens)
  source, size = pad_sources(model, sources, len(tokens_BT)), tokens_BT.shape[1] + T
  cache, _ = prefill(model, params, tokens_BT, prompts_B, source, size=size)
  search = _search(
    model,
    params,
    cache,
    prompts_B,
    tokens_BT[np.arange(len(prompts_B)), prompts_B - 1],
    open_B=np.arange(len(prompts_B)) < len(prompts),
    stops_C=np.array(sorted(stops), np.int32),
    limit=np.int32(max_tokens),
    penalty=np.float32(length_penalty),
    W=beams,
    T=T,
  )
  found, stopped_BW = jax.device_get((search.ended, search.stopped_BW))
  if not np.isfinite(found.scores_BW[: len(prompts), 0]).all():
    raise Mistake(
      "beam search found nothing: the model's logits are not finite; "
      "look at the parameters (a run that diverged, a damaged file?)"
    )
  there_BW = np.isfinite(found.scores_BW)
  rows = slice(len(prompts))
  return Output(
    found.ids_BWT[rows],
    np.where(there_BW, found.lengths_BW, 0)[rows],
    found.scores_BW[rows],
    stopped_BW[rows],
  )
