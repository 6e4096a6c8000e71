"""Sequence to sequence: the target tokens given a source."""

from lm.errors import Mistake
from lm.objectives.scoring import read, score

CORRUPTIONS = ("prefix", "spans")


def seq2seq(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  smoothing=0.0,
  logits_bytes=2**28,
):
  """Returns the cross-entropy of the tokens that follow from source_BS.

  In training, a share `smoothing` of every target is spread evenly over the vocabulary
  (arXiv:1512.00567; 0.1 in arXiv:1706.03762). Sums and `logits_bytes` are those of
  `next_token`; "nats_per_token" is without smoothing.
  """
  if not 0 <= smoothing < 1:
    raise Mistake(f"loss.smoothing={smoothing:g}; wanted 0 or more, less than 1")
  features = read(apply, params, batch, key, train)
  sums, _ = score(
    apply,
    params,
    features,
    batch,
    train=train,
    smoothing=smoothing if train else 0.0,
    logits_bytes=logits_bytes,
  )
  return sums
