"""BERT's two objectives (arXiv:1810.04805): masked tokens, and whether B follows A."""

import jax.numpy as jnp

from lm.objectives.scoring import read, score
from lm.objectives.softmax import cross_entropy

CORRUPTIONS = ("pairs",)


def next_sentence(
  apply, params, batch, key, *, given=None, train=True, logits_bytes=2**28
):
  """Returns the cross-entropy of the masked tokens plus that of the next sentence.

  next_B is 0 where the second part of a row follows the first, else 1. The
  next-sentence loss of a row counts as often as the row has masked tokens, so that the
  mean of the sum is the sum of the two means. Sums are those of `masked_lm`, and
  "next_sentence_accuracy" over rows.
  """
  features = read(apply, params, batch, key, train)
  sums, _ = score(
    apply, params, features, batch, train=train, logits_bytes=logits_bytes
  )
  logits_BC = apply({"params": params}, features.x_BTD, method="next_sentence")
  nll_B, _ = cross_entropy(logits_BC, batch["next_B"])
  masked_B = jnp.sum(batch["weights_BT"], axis=1)
  correct_B = jnp.argmax(logits_BC, axis=1) == batch["next_B"]
  loss, weight = sums["loss"]
  return sums | {
    "loss": (loss + jnp.sum(nll_B * masked_B), weight),
    "next_sentence_accuracy": (
      jnp.sum(correct_B & (masked_B > 0)).astype(jnp.float32),
      jnp.sum(masked_B > 0).astype(jnp.float32),
    ),
  }
