"""The jitted update: gradients of sums, one division, one optimiser step."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from lm.errors import Mistake
from lm.nn import cpu
from lm.rng import stream
from lm.train.state import TrainState

TINY = 1e-9  # least weight of a metric: one of which a batch has nothing reads 0


def make_step(
  apply,
  objective,
  tx,
  *,
  schedule=None,
  accumulate=1,
  ema_decay=0.0,
  abstract=None,
):
  """Returns the jitted update `step(state, batch, root_key) -> (state, metrics)`.

  The state is donated, and stays sharded as `abstract` is. Micro-batches interleave the
  rows of the batch, so that no row moves to another device; their sums and gradients
  are added up and divided once, by the weight of "loss". Metrics are float32 scalars:
  every pair of the objective as "train/<name>", the norms of gradient, update and
  parameters, and with a `schedule` the learning rate.

  A batch whose "loss" has weight 0 gives NaN, which ends the loop as Diverged: it has
  no gradient. Other metrics of weight 0 are 0.
  """
  gradient = _accumulated(apply, objective, accumulate)

  def step(state, batch, root):
    # The key of everything random in an objective (dropout, noise words, masks); the
    # name is kept, as another would change the numbers of every run.
    key = stream(root, "dropout", state.step)
    if state.carry:
      batch = batch | {"carry": state.carry}
    (grads, sums), carry = gradient(state.params, batch, key, state.given)
    _, weight = sums["loss"]
    # The norm of the undivided sums: squares of the divided gradients would be shared
    # with Adam, and XLA:CPU would then keep them in memory.
    grad_norm = optax.tree.norm(grads) / weight
    grads = jax.tree.map(partial(jnp.multiply, 1 / weight), grads)
    updates, opt = tx.update(grads, state.opt, state.params)
    # `updates` has two consumers, its norm and the parameters; materialised, it lets
    # the parameters be updated in place.
    updates = jax.tree.map(cpu.materialise, updates, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay:
      ema = optax.incremental_update(params, ema, 1 - ema_decay)
    metrics = {
      "train/grad_norm": grad_norm,
      "train/update_norm": optax.tree.norm(updates),
      "train/param_norm": optax.tree.norm(params),
    }
    if schedule is not None:
      metrics["train/lr"] = jnp.asarray(schedule(state.step), jnp.float32)
    for name, (total, count) in sums.items():
      metrics[f"train/{name}"] = total / jnp.maximum(count, TINY)
    return TrainState(state.step + 1, params, opt, ema, carry, state.given), metrics

  where = None
  if abstract is not None:
    where = jax.tree.map(lambda x: x.sharding, abstract), None
  return jax.jit(step, donate_argnums=0, out_shardings=where)


def _accumulated(apply, objective, accumulate):
  """Returns (params, batch, key, given) -> ((gradient, sums), carry)."""

  def loss(params, batch, key, given):
    sums = objective(apply, params, batch, key, given=given)
    carry = sums.pop("carry", ())
    return sums["loss"][0], (sums, carry)

  def gradient(params, batch, key, given):
    grads, (sums, carry) = jax.grad(loss, has_aux=True)(params, batch, key, given)
    return (grads, sums), carry

  def accumulated(params, batch, key, given):
    if accumulate == 1:
      return gradient(params, batch, key, given)
    micro = jax.tree.map(partial(_interleave, accumulate), batch)

    def add(total, piece):
      index, part = piece
      part_key = jax.random.fold_in(key, index)
      sums, carry = gradient(params, part, part_key, given)
      return jax.tree.map(jnp.add, total, sums), carry

    first = jax.tree.map(lambda x: x[0], micro)
    shapes, _ = jax.eval_shape(gradient, params, first, key, given)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, carries = jax.lax.scan(add, zeros, (jnp.arange(accumulate), micro))
    return total, jax.tree.map(_deinterleave, carries)

  return accumulated


def _interleave(parts: int, x):
  """Returns [B, ...] as [parts, B / parts, ...]; part i has rows i, i + parts, ..."""
  if x.shape[0] % parts:
    raise Mistake(f"optim.accumulate={parts} does not divide batch={x.shape[0]}")
  return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)


def _deinterleave(x):
  """Returns [parts, B / parts, ...] as [B, ...]: the inverse of `_interleave`."""
  return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])
