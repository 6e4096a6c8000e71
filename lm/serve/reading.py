"""Prompts read into a cache of one row, a chunk at a time.

Chunks begin at multiples of their size, and a prompt's shapes follow from its length
alone: what is read does not depend on which chunks were there before, to the last bit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lm.generate.prompts import pad_sources
from lm.generate.slots import scores
from lm.serve.prefixes import addresses
from lm.serve.requests import Request, Scored

SMALL = 32  # tokens of the only other chunk, of short prompts: each size compiles once
TOP = 20  # the most likeliest ids of a token that a request may ask for


class Reading:
  """One prompt, of which all tokens but the last are read into an empty cache of a row.

  `prefixes` is None for models whose prompts are not kept.
  """

  def __init__(self, model, params, request: Request, *, cache, chunk: int, prefixes):
    self._model, self._params, self.request = model, params, request
    self._prefixes, self._listed, self._scored = prefixes, [], []
    self._ids = np.asarray(request.ids[:-1], np.int32)
    self._chunk = SMALL if len(self._ids) <= SMALL < chunk else chunk
    self.cache, self.done, self.cached = cache, 0, 0
    self._source = {}
    if request.source is not None:
      self._source = pad_sources(model, [list(request.source)], 1)
    if prefixes is not None and request.prompt_top is None:
      self._listed = addresses(self._ids, chunk, request.salt)
      parts = prefixes.longest(self._listed)
      for part in parts:
        self.cache = _filled(self.cache, part, self.done)
        self.done += chunk
      self.cached = self.done
    # The source is read with the first chunk, even one without a token.
    self.is_over = self.done == len(self._ids) and not self._source

  def step(self) -> int:
    """Reads the next chunk; returns how many tokens that were."""
    C, start = self._chunk, self.done
    ids = self._ids[start : start + C]
    tokens_1T = np.pad(ids, (0, C - len(ids)))[None]
    index_1T = np.arange(start, start + C, dtype=np.int32)[None]
    positions_1T = np.where(index_1T < len(self._ids), index_1T, -1)
    inputs = (self._model, self._params, self.cache, tokens_1T, positions_1T)
    if self.request.prompt_top is None:
      self.cache = fill(*inputs, self._source)
    else:
      self.cache = self._score(inputs, len(ids))
    self._source = {}
    self.done += len(ids)
    self.is_over = self.done == len(self._ids)
    number = start // C
    if len(ids) == C and number < len(self._listed):
      part = _columns(self.cache, start, size=C)
      self._prefixes.add(self._listed[number], part)
    return len(ids)

  def _score(self, inputs, count: int):
    """Keeps the scores of the tokens that follow these; returns the cache."""
    next_T = np.asarray(self.request.ids[self.done + 1 :][: inputs[3].shape[1]])
    next_1T = np.pad(next_T, (0, inputs[3].shape[1] - len(next_T)))[None]
    cache, numbers = fill_scored(*inputs, self._source, next_BT=next_1T, top=TOP)
    self._scored.append([np.asarray(x)[0, :count] for x in numbers])
    return cache

  def scored(self) -> Scored | None:
    """Returns the scores of all tokens of the prompt but the first, if wanted."""
    if self.request.prompt_top is None:
      return None
    top, parts = self.request.prompt_top, zip(*self._scored, strict=True)
    logprobs_T, ids_TO, logprobs_TO = (np.concatenate(part) for part in parts)
    return Scored(logprobs_T, ids_TO[:, :top], logprobs_TO[:, :top])


@functools.partial(jax.jit, static_argnames="model", donate_argnames="cache")
def fill(model, params, cache, tokens_BT, positions_BT, source):
  """Returns the cache with more tokens of prompts; those at position -1 are padding.

  `source` holds the arrays that some models read besides, see `pad_sources`.
  """
  inputs = dict(positions_BT=positions_BT, cache=cache, method="features")
  return model.apply({"params": params}, tokens_BT, **inputs, **source).cache


_columns = jax.jit(
  lambda cache, start, *, size: cache.columns(start, size), static_argnames="size"
)


_filled = jax.jit(
  lambda cache, part, start: cache.filled(part, start), donate_argnums=0
)


@functools.partial(jax.jit, static_argnames=("model", "top"), donate_argnames="cache")
def fill_scored(
  model, params, cache, tokens_BT, positions_BT, source, *, next_BT, top: int
):
  """Returns (the cache as `fill` does, scores of the ids that follow the tokens)."""
  inputs = dict(positions_BT=positions_BT, cache=cache, method="features")
  x_BTD, cache, _ = model.apply({"params": params}, tokens_BT, **inputs, **source)
  logits_BTV = model.apply({"params": params}, x_BTD, method="readout")
  return cache, scores(logits_BTV, jnp.asarray(next_BT), top)
