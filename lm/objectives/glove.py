"""GloVe: vectors whose products are the logarithms of co-occurrence counts."""

import jax.numpy as jnp

from lm.objectives.word_pairs import above_zero


def glove(apply, params, batch, key, *, given=None, train=True, most=100.0, power=0.75):
  """Returns weighted squared errors of log counts (Pennington et al. 2014, equation 8).

  weights_BT is the co-occurrence count of the words in tokens_BT and targets_BT; a pair
  weighs (count / most) ** power, 1 at most. Summed over pairs that occur. Sums: "loss",
  "error_per_pair".
  """
  counts_BT = batch["weights_BT"]
  occurs_BT = counts_BT > 0
  log_BT = apply(
    {"params": params},
    batch["tokens_BT"],
    batch["targets_BT"],
    method="log_counts",
    train=train,
    rngs={"dropout": key} if train else {},
  )
  error_BT = log_BT - jnp.log(jnp.where(occurs_BT, counts_BT, 1))
  weight_BT = jnp.minimum(1, (counts_BT / most) ** power)
  error = jnp.sum(weight_BT * jnp.square(error_BT))
  count = above_zero(jnp.sum(occurs_BT))
  return {"loss": (error, count), "error_per_pair": (error, count)}
