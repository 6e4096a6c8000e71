"""Replaced-token detection: one model makes tokens up, the other finds them."""

import jax
import jax.numpy as jnp

from lm.objectives import scoring
from lm.rng import stream


def replaced_token(
  apply, params, batch, key, *, train=True, detector=50.0, logits_bytes=2**28
):
  """ELECTRA's two losses (arXiv:2003.10555): hidden tokens, and which were made up.

  The generator names the tokens with weights_BT, as in `masked_lm`. A sample of what it
  says stands there when the discriminator reads the row, which pays, for every token of
  the row, the nats of telling whether it is another than that of the text. No gradient
  goes through the samples.

  Two means over different counts, of hidden tokens and of all, cannot be had from one
  division later on. So each row's mean over all its tokens counts as often as the row
  has hidden ones, and `weight` is the number of these: a sum over rows, exact for any
  micro-batches and devices. Divided, it is the mean of the generator's nats plus
  `detector` times that of the discriminator's: the paper's loss, for rows of which the
  same share is hidden.

  aux: "nll" and "correct" of the generator, over `weight`; "detector_nats" over
  "detected" tokens; of those "replaced" by another, the "replaced_found", and of the
  "original" ones the "original_kept". Evaluated, the samples of a row are a function of
  its tokens. There are no bits per byte: the discriminator predicts no text.
  """
  keys = {name: None for name in ("generator", "discriminator")}
  if train:
    keys = {name: stream(key, name) for name in keys}
  text_BT, weights_BT = batch["targets_BT"], batch["weights_BT"]
  x_BTD = scoring.features(apply, params, batch, keys["generator"], train)
  uniform_BT = _uniform(stream(key, "samples"), batch) if train else _fixed(batch)
  asked = {name: batch[name] for name in ("targets_BT", "weights_BT")}
  loss, weight, aux = scoring.scored(
    apply, params, x_BTD, asked | {"uniform_BT": uniform_BT}, logits_bytes=logits_bytes
  )
  row_BT = jnp.where(weights_BT > 0, aux.pop("sampled_BT"), text_BT)
  judged = batch | {"tokens_BT": row_BT}
  x_BTD, *_ = scoring.read(
    apply, params, judged, keys["discriminator"], train, method="judged"
  )
  scores_BT = apply({"params": params}, x_BTD, method="scores")
  real_BT = jnp.ones(row_BT.shape, bool)
  if "segments_BT" in batch:
    real_BT = batch["segments_BT"] > 0
  nats_B, sums = _detected(scores_BT, row_BT != text_BT, real_BT)
  loss += detector * jnp.sum(nats_B * jnp.sum(weights_BT, axis=1))
  return loss, weight, aux | sums


def _detected(scores_BT, replaced_BT, real_BT):
  """The mean nats of every row, and what is summed over all of them."""
  nats_BT = jax.nn.softplus(jnp.where(replaced_BT, -scores_BT, scores_BT)) * real_BT
  right_BT = ((scores_BT > 0) == replaced_BT) & real_BT
  sums = {
    "detector_nats": jnp.sum(nats_BT),
    "detected": jnp.sum(real_BT),
    "replaced": jnp.sum(real_BT & replaced_BT),
    "replaced_found": jnp.sum(right_BT & replaced_BT),
    "original": jnp.sum(real_BT & ~replaced_BT),
    "original_kept": jnp.sum(right_BT & ~replaced_BT),
  }
  return jnp.sum(nats_BT, axis=1) / jnp.maximum(jnp.sum(real_BT, axis=1), 1), sums


def _uniform(key, batch):
  return jax.random.uniform(key, batch["tokens_BT"].shape)


def _fixed(batch):
  """uniform_BT by what a row reads: the same in any batch, and however it is split."""
  tokens_BT = batch["tokens_BT"].astype(jnp.uint32)
  odd_T = 2 * jnp.arange(tokens_BT.shape[1], dtype=jnp.uint32) + 1
  # 2^32 over the golden ratio, as in Fibonacci hashing: sums of rows are far apart.
  number_B = jnp.sum((tokens_BT + 1) * (odd_T * jnp.uint32(2654435769))[None], axis=1)
  row = lambda number: jax.random.uniform(
    jax.random.fold_in(jax.random.key(0), number), odd_T.shape
  )
  return jax.vmap(row)(number_B)
