"""Log-probabilities of given texts: to compare candidates, and to be evaluated.

    score(model, params, tokenizer, ["a text", ("a context", " and its continuation")])

Sums of natural logarithms over tokens, of texts as they are; divide by their length in
tokens or bytes to compare those of different length.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.generate.prompts import as_sources, bucket, encode, pad_prompts, pad_sources
from lm.platform import narrow

LOGITS = 1 << 26  # numbers of logits at a time: 256 MB


class Score(NamedTuple):
  """The log-probability of a text, or of a continuation."""

  logprob: float  # the sum over its tokens, in nats
  tokens: int
  greedy: bool  # each token is the likeliest one in its place


def score(model, params, tokenizer, texts) -> list[Score]:
  """Returns the Score of each text.

  A text is a string, or a pair (context, continuation), of which the continuation is
  scored. A string is scored whole, its first token after the one that begins a
  document; what is longer than the model's context is read in windows, and each token
  is scored once, with as many tokens before it as its window has. Of a pair that is too
  long, the beginning of its context is not read, but for a soft prompt. An
  encoder-decoder reads the context as its source, and takes pairs alone.

  White space at the end of a context is taken for the beginning of the continuation, as
  most tokenizers have it. Raises Mistake for a model that predicts no next token.
  """
  check_model(model)
  if isinstance(texts, str):
    raise Mistake("wanted a list of texts, got one string")
  requests, owners = [], []
  for number, text in enumerate(texts):
    parts = _parts(model, tokenizer, text)
    requests += parts
    owners += [number] * len(parts)
  totals = [Score(0.0, 0, True)] * len(texts)
  for number, part in zip(owners, of_ids(model, params, requests), strict=True):
    logprob, tokens, greedy = totals[number]
    totals[number] = Score(
      logprob + part.logprob, tokens + part.tokens, greedy and part.greedy
    )
  return totals


def check_model(model):
  """Raises Mistake for a model that predicts no next token."""
  if model.traits.sees != "past" or model.output != "tokens":
    raise Mistake(
      "a model that sees both sides of a token, or names classes, gives a text no "
      "probability; wanted a decoder or an encoder-decoder"
    )


class Request(NamedTuple):
  """Ids to score given those before them, one at least, and perhaps given a source."""

  context: np.ndarray
  ids: np.ndarray
  source: np.ndarray | None = None  # what an encoder-decoder reads


@narrow
def of_ids(model, params, requests: list[Request], *, watch=iter) -> list[Score]:
  """Returns the Score of each request, in their order.

  A score does not depend on that order, to the last bit: batches are made by length,
  then by ids. `watch` is given the list of batches and yields them, as
  `lm.log.progress.progress` does.
  """
  limit = model.config.context or 2**31
  rows, scores = [], [None] * len(requests)
  for context, ids, _ in requests:
    if not len(context) or not 0 < len(ids) <= limit:
      raise Mistake(
        f"{len(ids)} tokens to score after {len(context)}; wanted one of each at "
        f"least, and to score no more than the model's context of {limit}"
      )
    rows.append(np.concatenate([context, ids])[-limit - 1 :])
  for batch in watch(_batches(rows, requests, model.config.vocab)):
    inputs = _arrays(model, [(rows[i], requests[i]) for i in batch])
    logprob_B, greedy_B = _scorer(model)(params, **inputs)
    for number, logprob, greedy in zip(batch, logprob_B, greedy_B, strict=False):
      tokens = len(requests[number].ids)
      scores[number] = Score(float(logprob), tokens, bool(greedy))
  return scores


def _batches(rows, requests, vocab: int) -> list[list[int]]:
  """Returns the numbers of the rows in batches whose logits are at most LOGITS."""

  def key(number):
    source = requests[number].source
    ids = [*rows[number].tolist(), *(() if source is None else source.tolist())]
    return -len(rows[number]), ids

  order, batches = sorted(range(len(rows)), key=key), []
  while order:
    size = max(1, LOGITS // (bucket(len(rows[order[0]]) - 1) * vocab))
    batches.append(order[:size])
    order = order[size:]
  return batches


def _parts(model, tokenizer, text) -> list[Request]:
  """Returns the requests whose scores add up to that of a text."""
  if isinstance(text, str):
    if model.traits.source:
      raise Mistake("an encoder-decoder scores pairs (source, text), got a string")
    first, front = _first(tokenizer), len(vocabulary.front(tokenizer))
    ids = np.append(first, tokenizer.encode(text))
    return windows(model, ids, first=len(first), front=front)
  context, continuation = text if isinstance(text, tuple | list) else (None, None)
  if not isinstance(context, str) or not isinstance(continuation, str):
    raise Mistake(f"wanted a text, or a context and a continuation, got {text!r}")
  if model.traits.source:
    ids = tokenizer.prompt(context)
    [start], [source], (first, _) = as_sources(model, tokenizer, [ids])
    start = np.array([*start, *(id for id in first if id is not None)])
    return [Request(start, tokenizer.encode(continuation), source)]
  request = continued(tokenizer, context, continuation)
  front = len(vocabulary.front(tokenizer))
  if front and model.config.context:
    room = max(0, model.config.context + 1 - len(request.ids) - front)
    rest = request.context[front:]
    context = np.append(request.context[:front], rest[max(0, len(rest) - room) :])
    request = request._replace(context=context)
  return [request]


def continued(tokenizer, context: str, continuation: str) -> Request:
  """Returns the request that scores a continuation behind its context."""
  stripped = context.rstrip()
  continuation = context[len(stripped) :] + continuation
  if not stripped:
    return Request(_first(tokenizer), tokenizer.encode(continuation))
  before = tokenizer.prompt(stripped)
  whole = tokenizer.prompt(stripped + continuation)
  return Request(whole[: len(before)], whole[len(before) :])


def _first(tokenizer) -> np.ndarray:
  """Returns the ids that begin a document, as an empty prompt has them."""
  ids, front = encode(tokenizer, "")[0], len(vocabulary.front(tokenizer))
  has_start = not front or tokenizer.bos in ids[front : front + 1]
  return ids[: front + has_start]


def windows(model, ids, *, first: int = 1, front: int = 0) -> list[Request]:
  """Returns requests that score each id but the `first` ones, once.

  Those at the `front`, a soft prompt, are before each window.
  """
  limit, requests = (model.config.context or len(ids)) - front, []
  start = first
  while start < len(ids):
    end = min(start + limit, len(ids))
    before = np.append(ids[:front], ids[max(front, end - 1 - limit) : start])
    requests.append(Request(before, ids[start:end]))
    start = end
  return requests


def _arrays(model, rows) -> dict:
  """Returns the arrays of a batch of (row, request): inputs, targets, weights."""
  inputs = [row[:-1] for row, _ in rows]
  tokens_BT, lengths_B = pad_prompts(inputs)
  targets_BT, weights_BT = np.zeros_like(tokens_BT), np.zeros(tokens_BT.shape, "f4")
  index_BT = np.arange(tokens_BT.shape[1])[None]
  positions_BT = np.where(index_BT < lengths_B[:, None], index_BT, -1)
  for b, (row, request) in enumerate(rows):
    targets_BT[b, : len(row) - 1] = row[1:]
    weights_BT[b, len(row) - 1 - len(request.ids) : len(row) - 1] = 1
  arrays = dict(tokens_BT=tokens_BT, positions_BT=positions_BT.astype(np.int32))
  arrays |= dict(targets_BT=targets_BT, weights_BT=weights_BT)
  if model.traits.source:
    sources = [request.source for _, request in rows]
    arrays |= pad_sources(model, sources, len(tokens_BT))
  return arrays


@functools.cache
def _scorer(model):
  """Returns the jitted function of `_arrays`: (logprob_B, greedy_B)."""

  def scored(params, targets_BT, weights_BT, **inputs):
    logits_BTV, _ = model.apply({"params": params}, **inputs)
    # A soft prompt's ids are no targets of weight, and beyond the logits.
    ids_BT1 = targets_BT[..., None]
    picked_BT1 = jnp.take_along_axis(logits_BTV, ids_BT1, axis=-1, mode="clip")
    logprob_BT = picked_BT1[..., 0] - jax.nn.logsumexp(logits_BTV, axis=-1)
    is_likeliest_BT = picked_BT1[..., 0] >= jnp.max(logits_BTV, axis=-1)
    greedy_B = jnp.all(is_likeliest_BT | (weights_BT == 0), axis=1)
    return jnp.sum(logprob_BT * weights_BT, axis=1), greedy_B

  return jax.jit(scored)
