"""Objectives: (apply, params, batch, key) -> (loss_sum, weight, aux), sums throughout.

Never means: the step adds up over devices and micro-batches first and divides once. The
name of an objective here is its name in the config.
"""

import math

import jax
import jax.numpy as jnp

from lm import dims


def next_token(
  apply, params, batch, key, *, train=True, z_loss=0.0, logits_bytes=2**28
):
  """Cross-entropy of every next token, summed in nats with weights_BT.

  `z_loss` adds z_loss * log(Z)^2 when training (PaLM, arXiv:2204.02311). Logits that
  would take a device more than `logits_bytes` in float32 are made piece by piece along
  T, and again in the backward pass, so that [B, T, V] never exists.

  aux: "nll" (the loss without z_loss), "correct" (the target has the highest logit; a
  tie counts) and, for a batch with bytes_BT, "bytes" and "byte_nats", the nats of those
  targets that stand for bytes. `key` is not used when train is False.
  """
  rngs = {"dropout": key} if train else {}
  x_BTD, _ = apply(
    {"params": params},
    batch["tokens_BT"],
    segments_BT=batch.get("segments_BT"),
    train=train,
    rngs=rngs,
    method="features",
  )
  names = [k for k in ("targets_BT", "weights_BT", "bytes_BT") if k in batch]
  piece = {"x_BTD": x_BTD} | {name: batch[name] for name in names}
  readout = lambda x_BTD: apply({"params": params}, x_BTD, method="readout")

  def sums(piece):
    logits_BTV = readout(piece["x_BTD"])
    return _sums(logits_BTV, piece, z_loss if train else 0.0)

  shape = jax.eval_shape(readout, x_BTD).shape
  count = min(shape[1], math.ceil(_device_bytes(shape) / logits_bytes))
  if count > 1:
    pieces = jax.tree.map(lambda x: _cut(x, count), piece)
    total = _map_sum(jax.checkpoint(sums, prevent_cse=False), pieces)
  else:
    total = sums(piece)
  return total.pop("loss"), total.pop("weight"), total


def _sums(logits_BTV, piece, z_loss):
  """All that is summed, of one piece of the batch."""
  targets_BT, weights_BT = piece["targets_BT"], piece["weights_BT"]
  nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
  fixed_BTV = jax.lax.stop_gradient(logits_BTV)
  # Not argmax: on CPU that takes longer than the whole cross-entropy.
  correct_BT = _pick(fixed_BTV, targets_BT) >= jnp.max(fixed_BTV, axis=-1)
  nll = jnp.sum(nll_BT * weights_BT)
  total = {
    "loss": nll + z_loss * jnp.sum(log_z_BT**2 * weights_BT) if z_loss else nll,
    "weight": jnp.sum(weights_BT),
    "nll": nll,
    "correct": jnp.sum(correct_BT * weights_BT),
  }
  if "bytes_BT" in piece:
    bytes_BT = piece["bytes_BT"]
    total["bytes"] = jnp.sum(bytes_BT * weights_BT)
    total["byte_nats"] = jnp.sum(jnp.where(bytes_BT > 0, nll_BT * weights_BT, 0))
  return total


@jax.custom_vjp
def cross_entropy(logits_BTV, targets_BT):
  """(nll_BT, log_z_BT): -log softmax at the targets, and the log of the normaliser.

  In float32, safe for logits of any size. The backward pass keeps the logits alone and
  makes the probabilities anew; JAX's own would keep both, twice the memory. Targets
  outside the vocabulary count as its nearest end: give them weight 0.
  """
  log_z_BT = jax.nn.logsumexp(logits_BTV.astype(jnp.float32), axis=-1)
  return log_z_BT - _pick(logits_BTV, targets_BT), log_z_BT


def _cross_entropy_forward(logits_BTV, targets_BT):
  nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
  return (nll_BT, log_z_BT), (logits_BTV, targets_BT, log_z_BT)


def _cross_entropy_backward(saved, gradients):
  logits_BTV, targets_BT, log_z_BT = saved
  nll_grad_BT, log_z_grad_BT = gradients
  probs_BTV = jnp.exp(logits_BTV - log_z_BT[..., None])
  last = logits_BTV.ndim - 1
  ids_BTV = jax.lax.broadcasted_iota(jnp.int32, logits_BTV.shape, last)
  hit_BTV = ids_BTV == targets_BT[..., None]
  grad_BTV = (nll_grad_BT + log_z_grad_BT)[..., None] * probs_BTV
  grad_BTV -= jnp.where(hit_BTV, nll_grad_BT[..., None], 0)
  return grad_BTV.astype(logits_BTV.dtype), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def _pick(logits_BTV, targets_BT):
  """The targets' logits, in float32."""
  # Where V is sharded, XLA gathers on every device and adds up [B, T], not [B, T, V].
  picked = jnp.take_along_axis(logits_BTV, targets_BT[..., None], -1, mode="clip")
  return picked[..., 0].astype(jnp.float32)


def _device_bytes(shape_BTV) -> int:
  """The bytes of float32 logits on one device of the mesh, by the sharding rules."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = [axis for axis in dims.spec("BTV") if axis and not mesh.empty]
  flat = [a for axis in axes for a in (axis if isinstance(axis, tuple) else (axis,))]
  return 4 * math.prod(shape_BTV) // math.prod(mesh.shape[a] for a in flat)


def _cut(x, count):
  """[B, T, ...] as [count, B, T / count, ...]; padded with zeros, which weigh nothing.

  Piece i has the positions i, i + count, ...: no position leaves its device when T is
  sharded.
  """
  extra = -x.shape[1] % count
  x = jnp.pad(x, [(0, extra if axis == 1 else 0) for axis in range(x.ndim)])
  return jnp.moveaxis(x.reshape(x.shape[0], -1, count, *x.shape[2:]), 2, 0)


def _map_sum(function, pieces):
  """The sum of function(piece), a tree, over the first dimension; one at a time."""
  add = lambda total, piece: (jax.tree.map(jnp.add, total, function(piece)), None)
  first = jax.tree.map(lambda x: x[0], pieces)
  shapes = jax.eval_shape(function, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(add, zeros, pieces)[0]
