"""Embeddings of texts from a model: the tokens' vectors as one, of length one.

    model, params, tokenizer = lm.load("all-MiniLM-L6-v2")
    x_RD = embed(model, params, tokenizer, ["a text", "another text"])
    cosine_RR = x_RD @ x_RD.T

Sentence-BERT (Reimers and Gurevych 2019, arXiv:1908.10084). What a folder of
sentence-transformers says of pooling, length and case holds, unless options say more.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake, one_of
from lm.generate.prompts import bucket
from lm.platform import narrow

POOLINGS = ("mean", "first", "max", "mean_sqrt", "weighted_mean", "last_token")


@narrow
def embed(
  model, params, tokenizer, texts, *, pooling="", max_tokens=0, batch_size=32
) -> np.ndarray:
  """Returns x_RD: an embedding of length one for each of the R texts.

  `pooling` is the vector that stands for a text: "mean" of the tokens', or their sum
  over the root of their number ("mean_sqrt"); "weighted_mean", by 1, 2, 3...; the
  largest of each feature ("max"); the "first" token's, or the "last_token"'s. Several,
  separated by "+", are concatenated. By default it is that of the model's folder, or
  else the mean. A text of more than `max_tokens` tokens (0: those that the folder
  allows, or the context holds) is truncated, but keeps its last token. Raises Mistake
  without texts, for an unknown pooling, and for a folder with steps not built here.
  """
  if isinstance(texts, str) or not len(texts):
    raise Mistake("wanted a list of texts, of one at least")
  poolings = _poolings(tokenizer, pooling)
  ids, limit = encode(tokenizer, texts), _limit(model, tokenizer, max_tokens)
  ids = [_truncate(text_ids, limit) for text_ids in ids]
  return _vectors(model, params, ids, poolings, batch_size)


def encode(tokenizer, texts) -> list[np.ndarray]:
  """Returns the ids of each text, whole, as `embed` reads it."""
  is_lower = tokenizer.embedding.get("lower")
  return [tokenizer.prompt(text.lower() if is_lower else text) for text in texts]


def _limit(model, tokenizer, max_tokens=0) -> int:
  """Returns the most tokens of a text."""
  own = max_tokens or tokenizer.embedding.get("max_tokens")
  return min(filter(None, (own, model.config.context)), default=2**31)


@narrow
def of_ids(model, params, tokenizer, ids, *, pooling="", batch_size=32) -> np.ndarray:
  """Returns x_RD of R sequences of ids, as `embed` of texts that have these.

  Raises Mistake for an empty one, and for one that would have to be truncated.
  """
  limit = _limit(model, tokenizer)
  for text_ids in ids:
    if not 0 < len(text_ids) <= limit:
      raise Mistake(
        f"a text of {len(text_ids)} tokens; wanted one at least, and {limit} at most"
      )
  return _vectors(model, params, ids, _poolings(tokenizer, pooling), batch_size)


def _poolings(tokenizer, pooling: str) -> tuple[str, ...]:
  """Returns the names of the poolings that are wanted; Mistake for an unknown one."""
  own = tokenizer.embedding
  poolings = tuple(pooling.split("+") if pooling else own.get("pooling", ["mean"]))
  for name in poolings:
    one_of("pooling", name, POOLINGS)
  if own.get("not_built") and not pooling:
    raise Mistake(
      f"the model's folder makes embeddings with {own['not_built']}, which is not "
      "built here; choose a pooling for vectors without it"
    )
  return poolings


def _vectors(model, params, ids, poolings, batch_size: int) -> np.ndarray:
  by_length = np.argsort([len(text_ids) for text_ids in ids], kind="stable")
  width = model.config.width * len(poolings)
  x_RD = np.zeros((len(ids), width), np.float32)
  for start in range(0, len(ids), batch_size):
    rows = by_length[start : start + batch_size]
    longest = bucket(max(len(ids[row]) for row in rows))
    longest = min(longest, model.config.context or longest)
    tokens_BT = np.zeros((bucket(len(rows), 1), longest), np.int32)
    positions_BT = np.full(tokens_BT.shape, -1, np.int32)
    for b, row in enumerate(rows):
      tokens_BT[b, : len(ids[row])] = ids[row]
      positions_BT[b, : len(ids[row])] = np.arange(len(ids[row]))
    x_BD = _embedder(model, poolings)(params, tokens_BT, positions_BT)
    x_RD[rows] = np.asarray(x_BD)[: len(rows)]
  return x_RD


def _truncate(ids, max_tokens: int):
  """The first ids and the last, `max_tokens` in all."""
  return ids if len(ids) <= max_tokens else np.append(ids[: max_tokens - 1], ids[-1])


@functools.cache
def _embedder(model, poolings: tuple[str, ...]):
  """The jitted function (params, tokens, positions) -> x_BD; position -1 is padding."""

  def embedded(params, tokens_BT, positions_BT):
    x_BTD, *_ = model.apply(
      {"params": params}, tokens_BT, positions_BT=positions_BT, method="features"
    )
    parts = [_pooled(name, x_BTD, positions_BT) for name in poolings]
    x_BD = jnp.concatenate(parts, axis=-1)
    length_B1 = jnp.linalg.norm(x_BD, axis=-1, keepdims=True)
    return x_BD / jnp.maximum(length_B1, 1e-12)

  return jax.jit(embedded)


def _pooled(name: str, x_BTD, positions_BT):
  """Returns x_BD of one pooling."""
  real_BT1 = (positions_BT >= 0)[..., None]
  if name == "first":
    return x_BTD[:, 0]
  if name == "max":
    return jnp.max(jnp.where(real_BT1, x_BTD, -jnp.inf), axis=1)
  if name == "last_token":
    is_last_BT = positions_BT == jnp.max(positions_BT, axis=1, keepdims=True)
    return jnp.sum(jnp.where(is_last_BT[..., None] & real_BT1, x_BTD, 0), axis=1)
  weight_BT1 = real_BT1.astype(jnp.float32)
  if name == "weighted_mean":
    weight_BT1 = weight_BT1 * (1 + positions_BT[..., None])
  sum_BD = jnp.sum(jnp.where(real_BT1, x_BTD, 0) * weight_BT1, axis=1)
  total_B1 = jnp.maximum(jnp.sum(weight_BT1, axis=1), 1)
  return sum_BD / (jnp.sqrt(total_B1) if name == "mean_sqrt" else total_B1)
