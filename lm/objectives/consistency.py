"""Consistency: a class of a text that stays the same when some of its words are hidden.

UDA, arXiv:1904.12848, equation 1, with words hidden in place of translations.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lm.data.rows import corrupt, pad_id
from lm.models import INPUTS
from lm.objectives.classify import class_logits
from lm.objectives.scoring import add_auxiliary, class_sums, read
from lm.objectives.softmax import divergence

READ = (*INPUTS, "label_B", "weights_B", "label_BP", "weights_BP")  # besides tokens


def consistency(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  weight=1.0,
  rate=0.15,
):
  """Returns the cross-entropy of each text's class, and in training a divergence.

  It is `weight` times the KL of the classes of a text and of the same text with a share
  `rate` of its tokens hidden; no gradient flows into the former. `given` has the id
  that hides a token, and which ids are never hidden. Sums are those of `classify`, and
  in training "divergence", in nats.
  """
  if not train:
    features = read(apply, params, batch, None, train)
    return class_sums("text", *class_logits(apply, params, features, batch))
  hiding_key, dropout_key = jax.random.split(key)
  tokens_BT = batch["tokens_BT"]
  stays_BT = jnp.take(given["special_V"], tokens_BT, mode="clip")
  hidden_BT = jax.random.bernoulli(hiding_key, rate, tokens_BT.shape) & ~stays_BT
  hidden_BT = jnp.where(hidden_BT, given["blank"], tokens_BT)
  # One batch of both is faster than two: each gradient of a weight is added up once.
  both = {name: jnp.concatenate([batch[name]] * 2) for name in READ if name in batch}
  both |= {"tokens_BT": jnp.concatenate([tokens_BT, hidden_BT])}
  features = read(apply, params, both, dropout_key, train)
  (logits, other), (label, _), (weights, _) = (
    jnp.split(x, 2) for x in class_logits(apply, params, features, both)
  )
  sums = class_sums("text", logits, label, weights)
  kl = jnp.sum(divergence(jax.lax.stop_gradient(logits), other) * weights)
  loss, count = sums["loss"]
  sums |= {"loss": (loss + weight * kl, count), "divergence": (kl, count)}
  return add_auxiliary(sums, features.losses)


def given(dataset, **_) -> dict:
  """Returns {"blank", "special_V"}: the id that hides tokens, flags of special ids.

  It is that of the mask, of an unknown word or of padding, the first that there is.
  """
  if dataset is None:
    return {"blank": np.int32(0), "special_V": np.zeros(1, bool)}
  tokenizer = dataset.tokenizer
  special_V = np.zeros(tokenizer.size, bool)
  special_V[[tokenizer.id(text) for text in tokenizer.special]] = True
  pad = pad_id(tokenizer)
  special_V[pad] = True
  if {corrupt.MASK, corrupt.ROBERTA_MASK} & set(tokenizer.special):
    blank = corrupt.mask_id(tokenizer)
  else:
    blank = pad if tokenizer.unk is None else tokenizer.unk
  return {"blank": np.int32(blank), "special_V": special_V}
