"""Continuous bag of words (arXiv:1301.3781): neighbours predict a word."""

from functools import partial

import jax.numpy as jnp

from lm.nn.linear import dot
from lm.objectives import windows, word_pairs


def cbow(
  apply,
  params,
  batch,
  key,
  *,
  given,
  train=True,
  window=5,
  negatives=5,
  sample=1e-3,
):
  """Returns the nats of telling each word from noise, given its neighbours' mean.

  As `skip_gram`, but summed over words: a pair is a word and all its neighbours. Sums:
  "loss", "nats_per_pair".
  """
  keys, seen = word_pairs.windows_of(batch, key, given["words"], window, train)
  read = partial(apply, {"params": params})
  near_BSD = read(seen.neighbours_BS, method="features", train=train, rngs=keys).x_BTD
  count_BT1 = jnp.sum(seen.pairs_BTW, -1, keepdims=True)
  share_BTW = seen.pairs_BTW / word_pairs.above_zero(count_BT1)
  share_BTS = windows.by_neighbour(share_BTW, window)
  x_BTD = dot("BTS,BSD->BTD", share_BTS, near_BSD, "float32")
  weights_BT = seen.weights_BT * (count_BT1[..., 0] > 0)
  nats = word_pairs.negative_sampling_nats(
    read,
    x_BTD,
    given["words"],
    keys.get("noise"),
    ids_BS=seen.centres_BT,
    weights_BTS=weights_BT[..., None] * jnp.eye(weights_BT.shape[1])[None],
    noise_BT=negatives * weights_BT,
  )
  weight = word_pairs.above_zero(jnp.sum(weights_BT))
  return {"loss": (nats, weight), "nats_per_pair": (nats, weight)}


def given(dataset, *, sample=1e-3, **_) -> dict:
  """Returns how often words are kept and drawn as noise, from the training text."""
  return word_pairs.statistics(dataset, sample)
