"""Replaced-token detection: a generator makes tokens up, a discriminator finds them."""

import jax
import jax.numpy as jnp

from lm.objectives.scoring import read, score
from lm.rng import stream

CORRUPTIONS = ("masked",)


def replaced_token(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  detector=50.0,
  logits_bytes=2**28,
):
  """Returns ELECTRA's two losses (arXiv:2003.10555): masked tokens, and replaced ones.

  The generator predicts the tokens with weights_BT, as in `masked_lm`. Masked positions
  are then filled with samples from it, and the discriminator classifies every token of
  the row as original or replaced (binary cross-entropy, in nats). No gradient flows
  through the samples.

  Two means over different counts, of masked tokens and of all, cannot come out of one
  division. So each row's mean over all its tokens counts as often as the row has masked
  ones: a sum over rows, exact for any micro-batches and devices. Divided, it is the
  mean of the generator's nats plus `detector` times the mean of the discriminator's:
  the paper's loss, for rows of which the same share is masked.

  Sums: "loss"; "nats_per_token" and "accuracy" of the generator;
  "detector_nats_per_token" over all tokens; "replaced_accuracy" and "original_accuracy"
  over the tokens that were and were not replaced. In evaluation the samples of a row
  are a function of its tokens. There are no bits per byte: the discriminator predicts
  no text.
  """
  generator_key, detector_key = None, None
  if train:
    generator_key, detector_key = stream(key, "generator"), stream(key, "discriminator")
  text_BT, weights_BT = batch["targets_BT"], batch["weights_BT"]
  features = read(apply, params, batch, generator_key, train)
  uniform_BT = _uniform(stream(key, "samples"), batch) if train else _fixed(batch)
  sums, sampled_BT = score(
    apply,
    params,
    features,
    {"targets_BT": text_BT, "weights_BT": weights_BT},
    train=train,
    uniform_BT=uniform_BT,
    logits_bytes=logits_bytes,
  )
  row_BT = jnp.where(weights_BT > 0, sampled_BT, text_BT)
  judged = batch | {"tokens_BT": row_BT}
  x_BTD = read(apply, params, judged, detector_key, train, method="judged").x_BTD
  scores_BT = apply({"params": params}, x_BTD, method="scores")
  is_real_BT = jnp.ones(row_BT.shape, bool)
  if "segments_BT" in batch:
    is_real_BT = batch["segments_BT"] > 0
  nats_B, detection = _detection(scores_BT, row_BT != text_BT, is_real_BT)
  loss, weight = sums["loss"]
  loss += detector * jnp.sum(nats_B * jnp.sum(weights_BT, axis=1))
  return sums | {"loss": (loss, weight)} | detection


def _detection(scores_BT, is_replaced_BT, is_real_BT):
  """Returns (nats_B, sums): the mean nats of every row, and the detector's sums."""
  nats_BT = jax.nn.softplus(jnp.where(is_replaced_BT, -scores_BT, scores_BT))
  nats_BT *= is_real_BT
  correct_BT = ((scores_BT > 0) == is_replaced_BT) & is_real_BT

  def count(mask_BT):
    return jnp.sum(mask_BT).astype(jnp.float32)

  sums = {"detector_nats_per_token": (jnp.sum(nats_BT), count(is_real_BT))}
  for name, mask_BT in (("replaced", is_replaced_BT), ("original", ~is_replaced_BT)):
    hits, total = count(correct_BT & mask_BT), count(is_real_BT & mask_BT)
    sums[f"{name}_accuracy"] = (hits, total)
  return jnp.sum(nats_BT, axis=1) / jnp.maximum(jnp.sum(is_real_BT, axis=1), 1), sums


def _uniform(key, batch):
  return jax.random.uniform(key, batch["tokens_BT"].shape)


def _fixed(batch):
  """Returns uniform_BT as a function of each row's tokens, whatever batch it is in."""
  tokens_BT = batch["tokens_BT"].astype(jnp.uint32)
  odd_T = 2 * jnp.arange(tokens_BT.shape[1], dtype=jnp.uint32) + 1
  # 2^32 over the golden ratio, as in Fibonacci hashing: sums of rows are far apart.
  hash_B = jnp.sum((tokens_BT + 1) * (odd_T * jnp.uint32(2654435769))[None], axis=1)

  def draw(number):
    key = jax.random.fold_in(jax.random.key(0), number)
    return jax.random.uniform(key, odd_T.shape)

  return jax.vmap(draw)(hash_B)
