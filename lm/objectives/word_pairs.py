"""Parts of skip-gram and CBOW: word statistics, windows, negative sampling."""

import jax
import jax.numpy as jnp
import numpy as np

from lm.objectives import windows
from lm.objectives.windows import Windows, Words


def statistics(dataset, sample: float) -> dict:
  """Returns {"words": Words} of the training text; without a dataset, a stand-in."""
  counts_V = np.ones(1) if dataset is None else dataset.word_counts()
  return {"words": Words.from_counts(counts_V, sample)}


def windows_of(batch, key, words: Words, window, train) -> tuple[dict, Windows]:
  """Returns ({purpose: key}, Windows): sampled in training, else expected (no keys)."""
  if not train:
    return {}, windows.expected_windows(batch, words, window)
  dropout, noise, draw = jax.random.split(key, 3)
  keys = {"dropout": dropout, "noise": noise}
  return keys, windows.sample_windows(draw, batch, words, window)


def negative_sampling_nats(
  read, x_BTD, words: Words, key, *, ids_BS, weights_BTS, noise_BT
):
  """Returns the nats of words against noise words (arXiv:1310.4546, equation 4).

  weights_BTS are the weights of the words of a block, ids_BS, with each x; noise_BT the
  number of noise words of each x. `key` draws the noise words of a block; without one,
  the expectation over the vocabulary is taken. `read` applies the model.
  """

  def scores(ids_BS):
    return read(x_BTD, read(ids_BS, method="contexts"), method="scores")

  if key is None:
    nats = jnp.sum(weights_BTS * windows.softplus(-scores(ids_BS)))
    noise_nats_BT = windows.expected_noise_nats(read, x_BTD, words)
    return nats + jnp.sum(noise_BT * noise_nats_BT)
  B, S = ids_BS.shape
  noise_ids = words.noise(key, (B, windows.NOISE))
  # Words and noise side by side, (B, T, S + NOISE): one matmul, not two.
  both = scores(jnp.concatenate([ids_BS, noise_ids], axis=1))
  share = jnp.repeat(noise_BT[..., None] / windows.NOISE, windows.NOISE, axis=-1)
  weights = jnp.concatenate([weights_BTS, share], axis=-1)
  sign = np.where(np.arange(both.shape[-1]) < S, -1, 1).astype(np.float32)
  return jnp.sum(weights * windows.softplus(both * sign[None, None]))


def above_zero(weight):
  """Returns a weight to divide by, also where no row has two words that are kept."""
  return jnp.maximum(weight, 1e-9)
