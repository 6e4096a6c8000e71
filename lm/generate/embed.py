"""Embeddings of texts from an encoder: the mean over a text's tokens, of length one.

    model, params, tokenizer = lm.load("all-MiniLM-L6-v2")
    x_RD = embed(model, params, tokenizer, ["a text", "another text"])
    cosine_RR = x_RD @ x_RD.T

Sentence-BERT (Reimers and Gurevych 2019, arXiv:1908.10084).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake, one_of
from lm.generate.prompts import bucket
from lm.platform import narrow

POOLINGS = ("mean", "first")


@narrow
def embed(
  model, params, tokenizer, texts, *, pooling="mean", max_tokens=0, batch_size=32
) -> np.ndarray:
  """Returns x_RD: an embedding of length one for each of the R texts.

  `pooling` is "mean" (over the tokens) or "first" (the vector of the first token). A
  text of more than `max_tokens` tokens (0: those that the context holds) is truncated,
  but keeps its last token. Raises Mistake without texts or for an unknown pooling.
  """
  if isinstance(texts, str) or not len(texts):
    raise Mistake("wanted a list of texts, of one at least")
  one_of("pooling", pooling, POOLINGS)
  max_tokens = max_tokens or model.config.context
  ids = [_truncate(tokenizer.prompt(text), max_tokens) for text in texts]
  by_length = np.argsort([len(text_ids) for text_ids in ids], kind="stable")
  x_RD = np.zeros((len(ids), model.config.width), np.float32)
  for start in range(0, len(ids), batch_size):
    rows = by_length[start : start + batch_size]
    longest = min(bucket(max(len(ids[row]) for row in rows)), max_tokens)
    tokens_BT = np.zeros((bucket(len(rows), 1), longest), np.int32)
    positions_BT = np.full(tokens_BT.shape, -1, np.int32)
    for b, row in enumerate(rows):
      tokens_BT[b, : len(ids[row])] = ids[row]
      positions_BT[b, : len(ids[row])] = np.arange(len(ids[row]))
    x_BD = _pooled(model, pooling)(params, tokens_BT, positions_BT)
    x_RD[rows] = np.asarray(x_BD)[: len(rows)]
  return x_RD


def _truncate(ids, max_tokens: int):
  """The first ids and the last, `max_tokens` in all."""
  return ids if len(ids) <= max_tokens else np.append(ids[: max_tokens - 1], ids[-1])


@functools.cache
def _pooled(model, pooling):
  """The jitted function (params, tokens, positions) -> x_BD; position -1 is padding."""

  def pooled(params, tokens_BT, positions_BT):
    x_BTD, *_ = model.apply(
      {"params": params}, tokens_BT, positions_BT=positions_BT, method="features"
    )
    if pooling == "first":
      x_BD = x_BTD[:, 0]
    else:
      real_BT1 = (positions_BT >= 0)[..., None]
      x_BD = jnp.sum(jnp.where(real_BT1, x_BTD, 0), axis=1)
      x_BD = x_BD / jnp.maximum(jnp.sum(real_BT1, axis=1), 1)
    length_B1 = jnp.linalg.norm(x_BD, axis=-1, keepdims=True)
    return x_BD / jnp.maximum(length_B1, 1e-12)

  return jax.jit(pooled)
