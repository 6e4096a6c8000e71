"""Classification of whole rows: sentiment, topics, pairs of sentences."""

import jax.numpy as jnp

from lm.objectives.scoring import add_auxiliary, read
from lm.objectives.softmax import cross_entropy


def classify(apply, params, batch, key, *, given=None, train=True):
  """Returns the cross-entropy of each row's class, label_B, summed in nats.

  The model has a method `classify` that takes x_BTD and returns logits_BC (an encoder
  with head="classes"). A batch may weight its rows by weights_B (0 for padding). Sums:
  "loss", "nats_per_row", "accuracy".
  """
  features = read(apply, params, batch, key, train)
  logits_BC = apply({"params": params}, features.x_BTD, method="classify")
  label_B = batch["label_B"]
  weights_B = batch["weights_B"] if "weights_B" in batch else jnp.ones(label_B.shape)
  nll_B, _ = cross_entropy(logits_BC, label_B)
  correct_B = jnp.argmax(logits_BC, axis=1) == label_B
  nats, weight = jnp.sum(nll_B * weights_B), jnp.sum(weights_B)
  sums = {
    "loss": (nats, weight),
    "nats_per_row": (nats, weight),
    "accuracy": (jnp.sum(correct_B * weights_B), weight),
  }
  return add_auxiliary(sums, features.losses) if train else sums
