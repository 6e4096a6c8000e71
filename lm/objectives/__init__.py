"""Objectives: (apply, params, batch, key) -> (loss_sum, weight, aux), sums throughout.

Never means: the step adds up over devices and micro-batches first and divides once. The
name of an objective here is its name in the config.
"""

import jax.numpy as jnp

from lm.errors import Mistake
from lm.objectives import scoring
from lm.objectives.replaced_token import replaced_token as replaced_token
from lm.objectives.scoring import cross_entropy
from lm.objectives.words import cbow as cbow
from lm.objectives.words import glove as glove
from lm.objectives.words import skip_gram as skip_gram


def next_token(
  apply, params, batch, key, *, train=True, z_loss=0.0, logits_bytes=2**28
):
  """Cross-entropy of every next token, summed in nats with weights_BT.

  `z_loss` adds z_loss * log(Z)^2 when training (PaLM, arXiv:2204.02311). Logits that
  would take a device more than `logits_bytes` in float32 are made piece by piece along
  T, and again in the backward pass, so that [B, T, V] never exists.

  aux: "nll" (the loss without z_loss), "correct" (the target has the highest logit; a
  tie counts) and, for a batch with bytes_BT, "bytes" and "byte_nats", the nats of those
  targets that stand for bytes. `key` is not used when train is False. A batch with the
  "carry" of the last one (see `State.carried`) goes on from there, and aux has its own;
  no gradient goes back into it. Training, what a model sows into "losses" (means over
  its tokens) is added to the loss, and its "shares" to aux, both times the weight.
  """
  x_BTD, state, losses = scoring.read(apply, params, batch, key, train)
  extra = dict(z_loss=z_loss if train else 0.0, logits_bytes=logits_bytes)
  loss, weight, aux = scoring.scored(apply, params, x_BTD, batch, **extra)
  # A router's losses are no sums over tokens but products of means, so that one batch
  # is not exactly its micro-batches: these balance each for itself.
  if train:
    loss += weight * sum(each.loss for each in losses.values())
    aux |= {name: weight * each.mean for name, each in losses.items()}
  return loss, weight, aux if state is None else aux | {"carry": state.carried()}


def masked_lm(apply, params, batch, key, *, train=True, logits_bytes=2**28):
  """Cross-entropy of the hidden tokens, those with weights_BT (arXiv:1810.04805).

  The rest is as in `next_token`: the targets stand where they are hidden.
  """
  x_BTD = scoring.features(apply, params, batch, key, train)
  return scoring.scored(apply, params, x_BTD, batch, logits_bytes=logits_bytes)


def seq2seq(
  apply, params, batch, key, *, train=True, smoothing=0.0, logits_bytes=2**28
):
  """Cross-entropy of the tokens that follow from source_BS, summed with weights_BT.

  Training, a share `smoothing` of every target is spread evenly over the vocabulary
  (arXiv:1512.00567; 0.1 in arXiv:1706.03762). aux is as in `next_token`, "nll" being
  the loss without smoothing.
  """
  if not 0 <= smoothing < 1:
    raise Mistake(f"smoothing={smoothing:g}; wanted 0 or more, less than 1")
  x_BTD = scoring.features(apply, params, batch, key, train)
  extra = dict(smoothing=smoothing if train else 0.0)
  return scoring.scored(apply, params, x_BTD, batch, logits_bytes=logits_bytes, **extra)


def next_sentence(apply, params, batch, key, *, train=True, logits_bytes=2**28):
  """BERT's two losses (arXiv:1810.04805): hidden tokens, and whether B follows A.

  next_B says the latter, 0 for yes. Each row's loss of it counts as much as all its
  hidden tokens, so that the mean of the sum is the sum of the two means. aux is as in
  `next_token`, of the hidden tokens, with "rows" and of these "rows_correct".
  """
  x_BTD = scoring.features(apply, params, batch, key, train)
  loss, weight, aux = scoring.scored(
    apply, params, x_BTD, batch, logits_bytes=logits_bytes
  )
  logits_BC = apply({"params": params}, x_BTD, method="next_sentence")
  nll_B1, _ = cross_entropy(logits_BC[:, None], batch["next_B"][:, None])
  count_B = jnp.sum(batch["weights_BT"], axis=1)
  right_B = jnp.argmax(logits_BC, axis=1) == batch["next_B"]
  aux["rows"] = jnp.sum(count_B > 0)
  aux["rows_correct"] = jnp.sum(right_B & (count_B > 0))
  return loss + jnp.sum(nll_B1[:, 0] * count_B), weight, aux
