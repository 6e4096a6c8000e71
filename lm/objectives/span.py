"""Extractive question answering: the first and the last token of the answer."""

import jax.numpy as jnp

from lm.nn.attention.masks import of_segments
from lm.objectives.scoring import add_auxiliary, read, sums_per
from lm.objectives.softmax import cross_entropy


def span(apply, params, batch, key, *, given=None, train=True):
  """Returns the mean cross-entropy of start and end of each example, summed in nats.

  A row has several examples, apart by segments_BT (1, 2, ...); start_BP and end_BP are
  places in the example, 0 where it has no answer, and weights_BP is 0 for none. The
  model has head="span"; the softmax is over the tokens of the example alone. Sums:
  "loss", "nats_per_window", "accuracy" (both places are right).
  """
  features = read(apply, params, batch, key, train)
  logits_BTC = apply({"params": params}, features.x_BTD, method="label")
  weights_BP = batch["weights_BP"]
  is_own_BPT = of_segments(batch["segments_BT"], weights_BP.shape[1])
  first_BP = jnp.argmax(is_own_BPT, axis=-1)
  nll_BP, correct_BP = 0.0, True
  for place, name in enumerate(("start_BP", "end_BP")):
    least = jnp.finfo(jnp.float32).min
    logits_BPT = jnp.where(is_own_BPT, logits_BTC[:, None, :, place], least)
    target_BP = first_BP + batch[name]
    nll_BP += cross_entropy(logits_BPT, target_BP)[0] / 2
    correct_BP &= jnp.argmax(logits_BPT, axis=-1) == target_BP
  # A segment that does not exist has no logits, and its loss may be anything.
  nll_BP = jnp.where(weights_BP > 0, nll_BP, 0)
  sums = sums_per("window", nll_BP, correct_BP, weights_BP)
  return add_auxiliary(sums, features.losses) if train else sums
