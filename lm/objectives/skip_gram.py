"""Skip-gram (arXiv:1310.4546): a word predicts its neighbours."""

from functools import partial

import jax.numpy as jnp

from lm.objectives import windows, word_pairs


def skip_gram(
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
  """Returns the nats of telling each word's neighbours from noise words.

  Summed over pairs of a word and a neighbour (equation 4). In training, windows and
  noise are drawn by `key`; in evaluation their expectation is taken, so that nothing is
  random. `sample` is the subsampling rate of frequent words, 0 for none. What differs
  from the paper: the neighbours of a block of words share their noise words, see
  windows.py. Sums: "loss", "nats_per_pair".
  """
  keys, seen = word_pairs.windows_of(batch, key, given["words"], window, train)
  read = partial(apply, {"params": params})
  x_BTD = read(seen.centres_BT, method="features", train=train, rngs=keys).x_BTD
  count_BT = jnp.sum(seen.pairs_BTW, axis=-1)
  nats = word_pairs.negative_sampling_nats(
    read,
    x_BTD,
    given["words"],
    keys.get("noise"),
    ids_BS=seen.neighbours_BS,
    weights_BTS=windows.by_neighbour(seen.pairs_BTW, window),
    noise_BT=negatives * count_BT,
  )
  weight = word_pairs.above_zero(jnp.sum(count_BT))
  return {"loss": (nats, weight), "nats_per_pair": (nats, weight)}


def given(dataset, *, sample=1e-3, **_) -> dict:
  """Returns how often words are kept and drawn as noise, from the training text."""
  return word_pairs.statistics(dataset, sample)
