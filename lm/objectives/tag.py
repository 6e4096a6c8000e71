"""Tagging: a class for each word of a text."""

from lm.objectives.scoring import add_auxiliary, class_sums, read


def tag(apply, params, batch, key, *, given=None, train=True):
  """Returns the cross-entropy of each word's class, summed in nats.

  targets_BT is the class, and weights_BT is 1, at the first token of every word. The
  model has head="labels". Sums: "loss", "nats_per_word", "accuracy".
  """
  features = read(apply, params, batch, key, train)
  logits_BTC = apply({"params": params}, features.x_BTD, method="label")
  sums = class_sums("word", logits_BTC, batch["targets_BT"], batch["weights_BT"])
  return add_auxiliary(sums, features.losses) if train else sums
