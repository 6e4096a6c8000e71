"""The one training loop: a state, a jitted step, and `fit`, which drives them.

Objectives vary, loops do not. An objective returns sums; the only division is here.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lm import letters as dims
from lm import trees
from lm.errors import Mistake
from lm.letters import shardings, state_dims, unbox
from lm.nn import cpu
from lm.rng import stream


@struct.dataclass
class TrainState:
  """All that an update changes; plain arrays, no keys and no functions."""

  step: jax.Array  # updates made so far
  params: Any
  opt: Any  # the optimiser's state
  ema: Any  # a moving average of params, or () when there is none
  carry: Any = ()  # a recurrent model's state after the last batch, by `State.carried`


class Diverged(FloatingPointError):
  """The loss, the gradient or the parameters are not finite any more."""


FINITE = ("train/loss", "train/grad_norm", "train/param_norm")
# The sums of objectives whose means are shown, by the names of these.
MEANS = {
  "nats_per_token": "nll",
  "nats_per_pair": "pair_nats",
  "error_per_pair": "pair_error",
  "accuracy": "correct",
  "balance": "balance",
  "dropped_share": "dropped_share",
}
# Those that are over something else than the weight.
SHARES = {
  "detector_nats_per_token": ("detector_nats", "detected"),
  "replaced_accuracy": ("replaced_found", "replaced"),
  "original_accuracy": ("original_kept", "original"),
}


def state_maker(model, tx, mesh, tokens_BT, *, ema=False, carried=0):
  """How to make a TrainState: (init(key) -> state, abstract state with shardings).

  The state is born sharded: no device ever holds all of it. `carried` is the number of
  rows of a batch that go on where the last one's ended (truncated back-propagation
  through time), 0 when none does.
  """

  def init(key):
    params = unbox(model.init(key, tokens_BT)["params"])
    carry = model.init_cache(carried, 0).carried() if carried else ()
    ema_params = params if ema else ()
    return TrainState(jnp.int32(0), params, tx.init(params), ema_params, carry)

  params, letters = dims.abstract(model, tokens_BT)
  shapes = jax.eval_shape(init, jax.random.key(0))
  where = shardings(mesh, state_dims(shapes, params, letters), shapes)
  return jax.jit(init, out_shardings=where), trees.placed(shapes, where)


def make_step(
  apply, objective, tx, *, schedule, accumulate=1, ema_decay=0.0, abstract=None
):
  """The jitted update `step(state, batch, root_key) -> (state, metrics)`.

  The state is donated, and stays sharded as `abstract` says. Micro-batches interleave
  the rows of the batch, so that no row moves to another device; their losses, weights
  and gradients are added up and divided once. Metrics are float32 scalars, named as in
  metrics.jsonl.
  """

  sums = _sums(apply, objective, accumulate)

  def step(state, batch, root):
    key = stream(root, "dropout", state.step)
    if state.carry:
      batch = batch | {"carry": state.carry}
    (grads, (weight, aux)), carry = sums(state.params, batch, key)
    # Of the sums: their squares are nobody else's, so that XLA:CPU keeps none of them.
    grad_norm = optax.tree.norm(grads) / weight
    grads = jax.tree.map(partial(jnp.multiply, 1 / weight), grads)
    updates, opt = tx.update(grads, state.opt, state.params)
    # Read twice, by their norm and by the parameters, which then change in place.
    updates = jax.tree.map(cpu.materialise, updates, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema_decay:
      ema = optax.incremental_update(params, ema, 1 - ema_decay)
    metrics = {
      "train/loss": aux["loss"] / weight,
      "train/grad_norm": grad_norm,
      "train/update_norm": optax.tree.norm(updates),
      "train/param_norm": optax.tree.norm(params),
      "train/lr": jnp.asarray(schedule(state.step), jnp.float32),
    }
    for name, key in MEANS.items():
      if key in aux:
        metrics[f"train/{name}"] = aux[key] / weight
    for name, (key, count) in SHARES.items():
      if key in aux:
        metrics[f"train/{name}"] = aux[key] / jnp.maximum(aux[count], 1)
    return TrainState(state.step + 1, params, opt, ema, carry), metrics

  where = None
  if abstract is not None:
    where = jax.tree.map(lambda x: x.sharding, abstract), None
  return jax.jit(step, donate_argnums=0, out_shardings=where)


def _sums(apply, objective, accumulate):
  """(params, batch, key) -> ((gradient, (weight, aux)), carry), over micro-batches."""

  def loss(params, batch, key):
    total, weight, aux = objective(apply, params, batch, key)
    carry = aux.pop("carry", ())
    return total, ((weight, aux | {"loss": total}), carry)

  def gradient(params, batch, key):
    grads, (scalars, carry) = jax.grad(loss, has_aux=True)(params, batch, key)
    return (grads, scalars), carry

  def sums(params, batch, key):
    if accumulate == 1:
      return gradient(params, batch, key)
    micro = jax.tree.map(partial(_interleave, accumulate), batch)

    def add(total, piece):
      index, part = piece
      one, carry = gradient(params, part, jax.random.fold_in(key, index))
      return jax.tree.map(jnp.add, total, one), carry

    first = jax.tree.map(lambda x: x[0], micro)
    shapes, _ = jax.eval_shape(gradient, params, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, carries = jax.lax.scan(add, zeros, (jnp.arange(accumulate), micro))
    return total, jax.tree.map(_interleaved, carries)

  return sums


def _interleave(parts: int, x):
  """[B, ...] as [parts, B / parts, ...], part i being the rows i, i + parts, ..."""
  if x.shape[0] % parts:
    raise Mistake(f"accumulate={parts} does not divide batch={x.shape[0]}")
  return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)


def _interleaved(x):
  """What `_interleave` was given, from its result."""
  return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])


@dataclass(frozen=True)
class Hook:
  """Something to do every so many updates: fn(updates made, state) -> None."""

  name: str  # of its share of the time: "time/<name>_s"
  every: int  # 0 means only at the end
  fn: Callable

  def due(self, n: int, last: int) -> bool:
    return n == last or (self.every > 0 and n % self.every == 0)


class Clock:
  """Seconds spent per activity since they were last asked for."""

  def __init__(self):
    self.spent_s, self.since = {}, time.perf_counter()

  @contextlib.contextmanager
  def __call__(self, name):
    start = time.perf_counter()
    yield
    took = time.perf_counter() - start
    self.spent_s[name] = self.spent_s.get(name, 0.0) + took

  def take(self, apart=()) -> tuple[float, dict]:
    """Seconds in all but `apart`, and {"time/<name>_s": seconds} of each activity."""
    now = time.perf_counter()
    seconds, self.since = now - self.since, now
    seconds -= sum(self.spent_s.get(name, 0.0) for name in apart)
    spent = {f"time/{name}_s": round(s, 4) for name, s in self.spent_s.items()}
    self.spent_s = {}
    return seconds, spent


def fit(state, step, batches, *, root, num_steps, report, hooks=(), stop=None):
  """Runs `step` over `batches`, pairs (n, batch) with n updates made before; the state.

  `report(n, metrics, seconds, spent)` gets the metrics after n updates one step late,
  while the device is busy with the next; `seconds` are those of the update, without the
  hooks before it, which are in `spent` (the first one's include compiling it). Hooks
  run after their update, in order.
  `stop(n)` is asked after every update; when it says True, the hook "checkpoint" runs
  and the loop ends. Raises Diverged, naming the step, before a state that is not
  finite can reach a hook: what is saved last is good.
  """
  clock, pending, n = Clock(), None, None

  def settle():
    nonlocal pending
    if pending is None:
      return
    at, metrics = pending
    with clock("step"):
      metrics = {key: float(value) for key, value in jax.device_get(metrics).items()}
    for key in FINITE:
      if not math.isfinite(metrics.get(key, 0.0)):
        raise Diverged(f"{key} is {metrics[key]} at step {at}")
    report(at, metrics, *clock.take(apart={hook.name for hook in hooks}))
    pending = None

  batches = iter(batches)
  while True:
    with clock("data"):
      n, batch = next(batches, (None, None))
    if n is None:
      break
    with clock("step"):
      state, metrics = step(state, batch, root)
    settle()
    n, pending = n + 1, (n + 1, metrics)
    stopping = stop is not None and n < num_steps and stop(n)
    due = [
      h for h in hooks if h.due(n, num_steps) or (stopping and h.name == "checkpoint")
    ]
    if due:
      settle()
    for hook in due:
      with clock(hook.name):
        hook.fn(n, state)
    if stopping:
      break
  settle()
  return state
