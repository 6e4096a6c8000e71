"""Parts of objectives: the model's features, and scores of tokens or of classes."""

import math

import jax
import jax.numpy as jnp

from lm.letters import spec
from lm.models import INPUTS, Features
from lm.nn.state import State
from lm.objectives.softmax import cross_entropy, mean_logit, pick, sample

SCORED = ("targets_BT", "weights_BT")  # the arrays that `score` reads


def read(apply, params, batch, key, train, method="features") -> Features:
  """Returns the model's features of a batch, of all arrays in it that models read.

  `key` is for dropout. A batch with a "carry" continues from that recurrent state.
  """
  inputs = {name: batch[name] for name in INPUTS if name in batch}
  if "carry" in batch:
    inputs["cache"] = State.resumed(batch["carry"])
  return apply(
    {"params": params},
    batch["tokens_BT"],
    train=train,
    rngs={"dropout": key} if train else {},
    method=method,
    **inputs,
  )


def score(
  apply,
  params,
  features: Features,
  batch,
  *,
  train,
  logits_bytes,
  z_loss=0.0,
  smoothing=0.0,
  uniform_BT=None,
):
  """Returns (sums, sampled_BT) of the readout against the targets of a batch.

  The sums are described in `next_token`. In training they include the auxiliary losses
  in `features`; in training and evaluation, where the features have a cache, the state
  to carry on. With uniform_BT, drawn from [0, 1), `sampled_BT` holds a token drawn from
  each softmax; else it is None.
  """
  arrays = {name: batch[name] for name in SCORED}
  if "bytes_BT" in batch:
    arrays["bytes_BT"] = batch["bytes_BT"]
  arrays["x_BTD"] = features.x_BTD
  if uniform_BT is not None:
    arrays["uniform_BT"] = uniform_BT

  def readout(x_BTD):
    return apply({"params": params}, x_BTD, method="readout")

  def score_piece(piece):
    logits_BTV = readout(piece["x_BTD"])
    sampled_BT = None
    if "uniform_BT" in piece:
      sampled_BT = sample(logits_BTV, piece["uniform_BT"])
    return token_sums(logits_BTV, piece, z_loss, smoothing), sampled_BT

  shape = jax.eval_shape(readout, features.x_BTD).shape
  sums, sampled_BT = in_pieces(score_piece, arrays, shape, logits_bytes)
  if train:
    sums = add_auxiliary(sums, features.losses)
  if features.cache is not None:
    sums["carry"] = features.cache.carried()
  return sums, sampled_BT


def in_pieces(function, arrays: dict, shape_BTV, logits_bytes):
  """Returns function(arrays) -> (sums, outputs), computed in pieces along T.

  There are as many as it takes for the logits of one, of which all have `shape_BTV`,
  to fit `logits_bytes` on a device; they are computed anew in the backward pass. The
  sums are added up, and outputs [B, T] are joined.
  """
  count = min(shape_BTV[1], math.ceil(_device_bytes(shape_BTV) / logits_bytes))
  if count <= 1:
    return function(arrays)
  pieces = jax.tree.map(lambda x: _split(x, count), arrays)
  sums, outputs = _scan(jax.checkpoint(function, prevent_cse=False), pieces)
  return sums, jax.tree.map(lambda x: _join(x, shape_BTV[1]), outputs)


def target_nats(apply, params, x_BTD, targets_BT, *, logits_bytes):
  """Returns nll_BT: the nats of each target, from the input of the readout."""

  def readout(x_BTD):
    return apply({"params": params}, x_BTD, method="readout")

  def nats(piece):
    return {}, cross_entropy(readout(piece["x_BTD"]), piece["targets_BT"])[0]

  arrays = {"x_BTD": x_BTD, "targets_BT": targets_BT}
  shape = jax.eval_shape(readout, x_BTD).shape
  return in_pieces(nats, arrays, shape, logits_bytes)[1]


def add_auxiliary(sums: dict, losses: dict) -> dict:
  """Returns the sums with a model's auxiliary losses, means over its tokens, added.

  A router's losses are products of means and not sums over tokens, so a batch is not
  exactly its micro-batches: each of these is balanced by itself.
  """
  loss, weight = sums["loss"]
  loss += weight * sum(auxiliary.loss for auxiliary in losses.values())
  means = {name: (weight * aux.mean, weight) for name, aux in losses.items()}
  return sums | {"loss": (loss, weight)} | means


def class_sums(unit: str, logits, target, weights) -> dict:
  """Returns the sums of logits of classes against targets, of any leading dimensions.

  They are "loss", "nats_per_<unit>" and "accuracy", of the units with `weights`.
  """
  nll, _ = cross_entropy(logits, target)
  correct = jnp.argmax(logits, axis=-1) == target
  return sums_per(unit, nll, correct, weights)


def sums_per(unit: str, nll, correct, weights) -> dict:
  """Returns the sums of `class_sums` of the nats of targets, and of which are right."""
  nats, weight = jnp.sum(nll * weights), jnp.sum(weights)
  return {
    "loss": (nats, weight),
    f"nats_per_{unit}": (nats, weight),
    "accuracy": (jnp.sum(correct * weights), weight),
  }


def token_sums(logits_BTV, piece, z_loss=0.0, smoothing=0.0) -> dict:
  """Returns the sums of `next_token`, of logits against the targets of a batch."""
  targets_BT, weights_BT = piece["targets_BT"], piece["weights_BT"]
  nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
  constant_BTV = jax.lax.stop_gradient(logits_BTV)
  # Not argmax: on CPU that takes longer than the whole cross-entropy.
  correct_BT = pick(constant_BTV, targets_BT) >= jnp.max(constant_BTV, axis=-1)
  nll = loss = jnp.sum(nll_BT * weights_BT)
  if z_loss:
    loss += z_loss * jnp.sum(log_z_BT**2 * weights_BT)
  if smoothing:
    uniform = jnp.sum((log_z_BT - mean_logit(logits_BTV)) * weights_BT)
    loss = (1 - smoothing) * loss + smoothing * uniform
  weight = jnp.sum(weights_BT)
  sums = {
    "loss": (loss, weight),
    "nats_per_token": (nll, weight),
    "accuracy": (jnp.sum(correct_BT * weights_BT), weight),
  }
  if "bytes_BT" in piece:
    # An end-of-document token stands for no bytes: neither rewarded nor charged.
    bytes_BT = piece["bytes_BT"]
    nats = jnp.sum(jnp.where(bytes_BT > 0, nll_BT * weights_BT, 0))
    sums["bits_per_byte"] = (nats / math.log(2), jnp.sum(bytes_BT * weights_BT))
  return sums


def _device_bytes(shape_BTV) -> int:
  """Returns the bytes of float32 logits on one device of the mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = [axis for axis in spec("BTV") if axis and not mesh.empty]
  flat = [a for axis in axes for a in (axis if isinstance(axis, tuple) else (axis,))]
  return 4 * math.prod(shape_BTV) // math.prod(mesh.shape[a] for a in flat)


def _split(x, count):
  """Returns [B, T, ...] as [count, B, T / count, ...], zero-padded (weight 0).

  Piece i has the positions i, i + count, ...: no position leaves its device when T is
  sharded.
  """
  extra = -x.shape[1] % count
  x = jnp.pad(x, [(0, extra if dim == 1 else 0) for dim in range(x.ndim)])
  return jnp.moveaxis(x.reshape(x.shape[0], -1, count, *x.shape[2:]), 2, 0)


def _join(x, length):
  """Returns [count, B, T / count] as [B, T]: the inverse of `_split`."""
  return jnp.moveaxis(x, 0, 2).reshape(x.shape[1], -1)[:, :length]


def _scan(function, pieces):
  """Scans function(piece) -> (sums, outputs); returns summed sums, stacked outputs."""

  def add(total, piece):
    sums, outputs = function(piece)
    return jax.tree.map(jnp.add, total, sums), outputs

  first = jax.tree.map(lambda x: x[0], pieces)
  shapes, _ = jax.eval_shape(function, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(add, zeros, pieces)
