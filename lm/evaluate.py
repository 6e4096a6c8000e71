"""Evaluation: an objective over a split, every token scored once."""

import jax
import jax.numpy as jnp

from lm import metrics


def make_eval_step(apply, objective, bytes_V=None):
  """Returns the jitted `step(params, batch, given) -> sums`, an objective's pairs.

  `bytes_V` is the length in bytes of every token; with it, losses of different
  tokenizers can be compared (bits per byte). None where tokens have no length.
  """

  def step(params, batch, given=None):
    if bytes_V is not None and "targets_BT" in batch:
      bytes_BT = jnp.take(jnp.asarray(bytes_V), batch["targets_BT"], axis=0)
      batch = batch | {"bytes_BT": bytes_BT}
    sums = objective(apply, params, batch, None, given=given, train=False)
    return {name: pair for name, pair in sums.items() if name != "carry"}

  return jax.jit(step)


def evaluate(step, params, batches, *, given=None) -> dict[str, float]:
  """Returns the metrics {"eval/<name>": value} of `params` over `batches`.

  Results are read one batch late, while the device is busy with the next. Nats per
  token count every target, bits per byte only targets that stand for bytes.
  """
  sums, pending = {}, None
  for batch in batches:
    latest = step(params, batch, given)
    if pending is not None:
      sums = metrics.add(sums, jax.device_get(pending))
    pending = latest
  if pending is not None:
    sums = metrics.add(sums, jax.device_get(pending))
  sums = sums or {"loss": (0, 0)}
  return {f"eval/{name}": value for name, value in metrics.means(sums).items()}


def names(apply, objective, params, batch, given=None) -> list[str]:
  """Returns the names "eval/<name>" that `evaluate` may report, from shapes alone.

  Raises Mistake where the model lacks what the objective reads, such as a head.
  """
  if "targets_BT" in batch:
    batch = batch | {"bytes_BT": batch["targets_BT"]}
  step = make_eval_step(apply, objective)
  sums = jax.eval_shape(step, params, batch, given)
  derived = [name for name, (source, _) in metrics.DERIVED.items() if source in sums]
  return [f"eval/{name}" for name in (*sums, *derived)]


def spread(total: int, count: int) -> list[int]:
  """Returns `count` of `total` indices, evenly spaced; all of them for 0 or too
  many."""
  if not count or count >= total:
    return list(range(total))
  return [i * total // count for i in range(count)]
