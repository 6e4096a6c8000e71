"""Next-token prediction: the objective of language models that read left to right."""

from lm.objectives.scoring import read, score


def next_token(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  z_loss=0.0,
  logits_bytes=2**28,
):
  """Returns the cross-entropy of every next token in nats, weighted by weights_BT.

  In training, `z_loss` adds z_loss * log(Z)^2 per token (PaLM, arXiv:2204.02311).
  Logits that would take a device more than `logits_bytes` in float32 are computed in
  pieces along T, and recomputed in the backward pass, so that [B, T, V] never exists.

  Sums: "loss", "nats_per_token" (without z_loss), "accuracy" (the target has the
  highest logit; a tie counts), and for a batch with bytes_BT "bits_per_byte" over the
  targets that stand for bytes. A batch with the "carry" of the previous one continues
  from it and returns its own; no gradient flows back into it.
  """
  features = read(apply, params, batch, key, train)
  sums, _ = score(
    apply,
    params,
    features,
    batch,
    train=train,
    z_loss=z_loss if train else 0.0,
    logits_bytes=logits_bytes,
  )
  return sums
