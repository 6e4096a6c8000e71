"""Classification of texts: sentiment, topics, pairs of sentences."""

import jax.numpy as jnp

from lm.objectives.scoring import add_auxiliary, class_sums, read


def classify(apply, params, batch, key, *, given=None, train=True):
  """Returns the cross-entropy of each text's class, summed in nats.

  A batch has one text a row, with label_B, or several with label_BP, apart by
  segments_BT (1, 2, ...). weights_B or weights_BP may be 0 for padding. The model has
  head="classes", and with it a method `classify`. Sums: "loss", "nats_per_text",
  "accuracy".
  """
  features = read(apply, params, batch, key, train)
  sums = class_sums("text", *class_logits(apply, params, features, batch))
  return add_auxiliary(sums, features.losses) if train else sums


def class_logits(apply, params, features, batch):
  """Returns (logits, label, weights) of texts: BPC, BP of packed ones, else BC, B."""
  is_packed = "label_BP" in batch
  label, weights = (
    (batch[f"{name}_BP"] if is_packed else batch.get(f"{name}_B"))
    for name in ("label", "weights")
  )
  weights = jnp.ones(label.shape) if weights is None else weights
  num = label.shape[1] if is_packed else 0
  inputs = dict(segments_BT=batch.get("segments_BT"), num=num, method="classify")
  return apply({"params": params}, features.x_BTD, **inputs), label, weights
