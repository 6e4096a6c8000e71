"""An objective over a split: every token scored once, whatever the batch size."""

import jax
import jax.numpy as jnp
import numpy as np

from lm import metrics


def make_eval_step(apply, objective, bytes_V):
  """The jitted `step(params, batch) -> sums`, a dict of float32 scalars.

  `bytes_V` is the length in bytes of every token, so that losses of different
  tokenizers can be compared (bits per byte); None where tokens have none.
  """

  def step(params, batch):
    if bytes_V is not None:
      bytes_BT = jnp.take(jnp.asarray(bytes_V), batch["targets_BT"], axis=0)
      batch = batch | {"bytes_BT": bytes_BT}
    total, weight, aux = objective(apply, params, batch, None, train=False)
    return aux | {"loss": total, "weight": weight}

  return jax.jit(step)


def evaluate(step, params, batches) -> dict:
  """The metrics "eval/..." of `params` over `batches`.

  Nats per token count every target; bits per byte only targets that stand for bytes, so
  that an end-of-document token is neither rewarded nor charged.
  """
  sums = {}
  for batch in batches:
    for key, value in jax.device_get(step(params, batch)).items():
      sums[key] = sums.get(key, 0.0) + np.float64(value)
  return {f"eval/{key}": value for key, value in metrics.report(sums).items()}


def spread(total: int, count: int) -> list[int]:
  """`count` of `total` indices, evenly spread; all for 0, or as many as there are."""
  if not count or count >= total:
    return list(range(total))
  return [i * total // count for i in range(count)]
