"""Tagging: a class for each word of a text."""

import jax.numpy as jnp

from lm.objectives.scoring import add_auxiliary, read
from lm.objectives.softmax import cross_entropy


def tag(apply, params, batch, key, *, given=None, train=True):
  """Returns the cross-entropy of each word's class, summed in nats.

  targets_BT is the class, and weights_BT is 1, at the first token of every word. The
  model has head="labels". Sums: "loss", "nats_per_word", "accuracy".
  """
  features = read(apply, params, batch, key, train)
  targets_BT, weights_BT = batch["targets_BT"], batch["weights_BT"]
  logits_BTC = apply({"params": params}, features.x_BTD, method="label")
  nll_BT, _ = cross_entropy(logits_BTC, targets_BT)
  correct_BT = jnp.argmax(logits_BTC, axis=-1) == targets_BT
  nats, weight = jnp.sum(nll_BT * weights_BT), jnp.sum(weights_BT)
  sums = {
    "loss": (nats, weight),
    "nats_per_word": (nats, weight),
    "accuracy": (jnp.sum(correct_BT * weights_BT), weight),
  }
  return add_auxiliary(sums, features.losses) if train else sums
