"""Vectors of texts from an encoder: the mean over a text's tokens, of length one.

    model, params, tokenizer = lm.load("all-MiniLM-L6-v2")
    near_NN = embed(model, params, tokenizer, texts) @ embed(...).T

As Sentence-BERT has it, arXiv:1908.10084.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake
from lm.generate.prompts import bucket

POOLINGS = ("mean", "first")


def embed(model, params, tokenizer, texts, *, pooling="mean", most=0, batch=32):
  """x_ND, a vector for each text; of its first token, where `pooling` says so.

  A text of more than `most` tokens (0: what the context holds) is cut, and keeps the
  token that ends it. Mistake without texts or for an unknown pooling.
  """
  if isinstance(texts, str) or not len(texts):
    raise Mistake("wanted a list of texts, of one at least")
  if pooling not in POOLINGS:
    raise Mistake(f"no pooling {pooling!r}; found: {', '.join(POOLINGS)}")
  most = most or model.config.context
  ids = [_cut(tokenizer.prompt(text), most) for text in texts]
  order = np.argsort([len(each) for each in ids], kind="stable")
  found = np.zeros((len(ids), model.config.width), np.float32)
  for start in range(0, len(ids), batch):
    rows = order[start : start + batch]
    longest = min(bucket(max(len(ids[row]) for row in rows)), most)
    tokens_BT = np.zeros((bucket(len(rows), 1), longest), np.int32)
    positions_BT = np.full(tokens_BT.shape, -1, np.int32)
    for place, row in enumerate(rows):
      tokens_BT[place, : len(ids[row])] = ids[row]
      positions_BT[place, : len(ids[row])] = np.arange(len(ids[row]))
    x_BD = _vectors(model, pooling)(params, tokens_BT, positions_BT)
    found[rows] = np.asarray(x_BD)[: len(rows)]
  return found


def _cut(ids, most: int):
  return ids if len(ids) <= most else np.append(ids[: most - 1], ids[-1])


@functools.cache
def _vectors(model, pooling):
  """The jitted function of one batch; position -1 is padding."""

  def vectors(params, tokens_BT, positions_BT):
    how = dict(positions_BT=positions_BT, method="features")
    x_BTD, *_ = model.apply({"params": params}, tokens_BT, **how)
    if pooling == "first":
      x_BD = x_BTD[:, 0]
    else:
      real_BT1 = (positions_BT >= 0)[..., None]
      x_BD = jnp.sum(jnp.where(real_BT1, x_BTD, 0), axis=1)
      x_BD = x_BD / jnp.maximum(jnp.sum(real_BT1, axis=1), 1)
    length_B1 = jnp.linalg.norm(x_BD, axis=-1, keepdims=True)
    return x_BD / jnp.maximum(length_B1, 1e-12)

  return jax.jit(vectors)
