"""Masked language modelling: BERT's objective (arXiv:1810.04805, section 3.1)."""

from lm.objectives.scoring import read, score

CORRUPTIONS = ("masked",)


def masked_lm(apply, params, batch, key, *, given=None, train=True, logits_bytes=2**28):
  """Returns the cross-entropy of the masked tokens, those with weights_BT.

  targets_BT holds each token at the position where it is masked. Sums and
  `logits_bytes` are those of `next_token`.
  """
  features = read(apply, params, batch, key, train)
  sums, _ = score(
    apply, params, features, batch, train=train, logits_bytes=logits_bytes
  )
  return sums
