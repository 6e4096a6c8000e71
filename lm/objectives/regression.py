"""Regression: a number for each text, or each pair of texts."""

import jax.numpy as jnp

from lm.objectives.scoring import add_auxiliary, read


def regression(apply, params, batch, key, *, given=None, train=True):
  """Returns the squared error of each text's number, summed.

  A batch has score_BP and weights_BP, of the texts apart by segments_BT (1, 2, ...);
  the model has head="classes" with one class, whose logit is the number. Sums: "loss",
  "squared_error", "absolute_error".
  """
  features = read(apply, params, batch, key, train)
  score_BP, weights_BP = batch["score_BP"], batch["weights_BP"]
  inputs = dict(num=score_BP.shape[1], method="classify")
  logits_BPC = apply({"params": params}, features.x_BTD, batch["segments_BT"], **inputs)
  error_BP = logits_BPC[..., 0] - score_BP
  weight = jnp.sum(weights_BP)
  squared = jnp.sum(jnp.square(error_BP) * weights_BP)
  sums = {
    "loss": (squared, weight),
    "squared_error": (squared, weight),
    "absolute_error": (jnp.sum(jnp.abs(error_BP) * weights_BP), weight),
  }
  return add_auxiliary(sums, features.losses) if train else sums
