"""Objectives of word vectors: who is near whom, and how often two words meet."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lm.nn.linear import dot
from lm.objectives import windows


def skip_gram(
  apply,
  params,
  batch,
  key,
  *,
  train=True,
  counts_V=None,
  window=5,
  negatives=5,
  sample=1e-3,
):
  """Each word tells the words near it from noise (arXiv:1310.4546, equation 4).

  Summed in nats over pairs of a word and a neighbour. Training, windows and noise are
  drawn by `key`; else their expectation is taken, so that nothing is left to chance.
  `counts_V` is how often each id occurs, 0 for what is no word. What differs: the
  neighbours of a block of words share their noise words, see lm.objectives.windows.
  """
  words = windows.Words(counts_V, sample)
  keys, seen = _windows(batch, key, words, window, train)
  read = partial(apply, {"params": params})
  x_BTD, *_ = read(seen.centres_BT, method="features", train=train, rngs=keys)
  count_BT = jnp.sum(seen.pairs_BTW, axis=-1)
  nats = _nats(
    read,
    x_BTD,
    words,
    keys.get("noise"),
    ids_BS=seen.near_BS,
    weights_BTS=windows.spread(seen.pairs_BTW, window),
    noise_BT=negatives * count_BT,
  )
  return nats, _above_zero(jnp.sum(count_BT)), {"pair_nats": nats}


def cbow(
  apply,
  params,
  batch,
  key,
  *,
  train=True,
  counts_V=None,
  window=5,
  negatives=5,
  sample=1e-3,
):
  """The mean of the words near tells a word from noise (arXiv:1301.3781).

  As `skip_gram`, but summed over words: one pair is a word and all those near it.
  """
  words = windows.Words(counts_V, sample)
  keys, seen = _windows(batch, key, words, window, train)
  read = partial(apply, {"params": params})
  near_BSD, *_ = read(seen.near_BS, method="features", train=train, rngs=keys)
  share_BTW = seen.pairs_BTW / _above_zero(jnp.sum(seen.pairs_BTW, -1, keepdims=True))
  share_BTS = windows.spread(share_BTW, window)
  x_BTD = dot("BTS,BSD->BTD", share_BTS, near_BSD, "float32")
  weights_BT = seen.weights_BT * (jnp.sum(seen.pairs_BTW, -1) > 0)
  nats = _nats(
    read,
    x_BTD,
    words,
    keys.get("noise"),
    ids_BS=seen.centres_BT,
    weights_BTS=weights_BT[..., None] * jnp.eye(weights_BT.shape[1])[None],
    noise_BT=negatives * weights_BT,
  )
  return nats, _above_zero(jnp.sum(weights_BT)), {"pair_nats": nats}


def glove(apply, params, batch, key, *, train=True, most=100.0, power=0.75):
  """Least squares of the logarithms of counts (Pennington et al. 2014, equation 8).

  weights_BT says how often the words of tokens_BT and targets_BT met, and counts as
  (weight / most) ** power, 1 at most. Summed over pairs that met.
  """
  counts_BT = batch["weights_BT"]
  met_BT = counts_BT > 0
  tokens = batch["tokens_BT"], batch["targets_BT"]
  rngs = {"dropout": key} if train else {}
  log_BT = apply(
    {"params": params}, *tokens, method="log_counts", train=train, rngs=rngs
  )
  error_BT = log_BT - jnp.log(jnp.where(met_BT, counts_BT, 1))
  worth_BT = jnp.minimum(1, (counts_BT / most) ** power)
  error = jnp.sum(worth_BT * jnp.square(error_BT))
  return error, _above_zero(jnp.sum(met_BT)), {"pair_error": error}


def _windows(batch, key, words, window, train):
  """({purpose: key}, windows.Windows) of a batch; no keys but in training."""
  if not train:
    return {}, windows.expected(batch, words, window)
  dropout, noise, draw = jax.random.split(key, 3)
  return {"dropout": dropout, "noise": noise}, windows.drawn(draw, batch, words, window)


def _nats(read, x_BTD, words, key, *, ids_BS, weights_BTS, noise_BT):
  """The sum of what it costs to tell words from noise.

  weights_BTS says how much each word of a block, ids_BS, counts with each x, noise_BT
  how many noise words each x is told from. `key` draws those of a block; without one,
  all words are noise. `read` calls the model.
  """
  score = lambda ids_BS: read(x_BTD, read(ids_BS, method="contexts"), method="scores")
  if key is None:
    near = jnp.sum(weights_BTS * windows.softplus(-score(ids_BS)))
    return near + jnp.sum(noise_BT * windows.noise_nats(read, x_BTD, words))
  B, S = ids_BS.shape
  drawn_BK = words.noise(key, (B, windows.NOISE))
  scores = score(jnp.concatenate([ids_BS, drawn_BK], axis=1))  # one matmul, not two
  share = jnp.repeat(noise_BT[..., None] / windows.NOISE, windows.NOISE, axis=-1)
  weights = jnp.concatenate([weights_BTS, share], axis=-1)
  sign = np.where(np.arange(scores.shape[-1]) < S, -1, 1).astype(np.float32)
  return jnp.sum(weights * windows.softplus(scores * sign[None, None]))


def _above_zero(weight):
  """A weight to divide by, also where a row has not two words that are kept."""
  return jnp.maximum(weight, 1e-9)
