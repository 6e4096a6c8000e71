"""Objectives: (apply, params, batch, key) -> (loss_sum, weight, aux), sums throughout.

Never means: the step adds up over devices and micro-batches first and divides once. The
name of an objective here is its name in the config.
"""

import math

import jax
import jax.numpy as jnp

from lm import dims
from lm.nn.recurrent import State
from lm.objectives.words import cbow as cbow
from lm.objectives.words import glove as glove
from lm.objectives.words import skip_gram as skip_gram

# What a model reads beside its tokens, where a batch has it.
READ = ("segments_BT", "types_BT", "source_BS", "source_segments_BS")


def next_token(
  apply, params, batch, key, *, train=True, z_loss=0.0, logits_bytes=2**28
):
  """Cross-entropy of every next token, summed in nats with weights_BT.

  `z_loss` adds z_loss * log(Z)^2 when training (PaLM, arXiv:2204.02311). Logits that
  would take a device more than `logits_bytes` in float32 are made piece by piece along
  T, and again in the backward pass, so that [B, T, V] never exists.

  aux: "nll" (the loss without z_loss), "correct" (the target has the highest logit; a
  tie counts) and, for a batch with bytes_BT, "bytes" and "byte_nats", the nats of those
  targets that stand for bytes. `key` is not used when train is False. A batch with the
  "carry" of the last one (see `State.carried`) goes on from there, and aux has its own;
  no gradient goes back into it. Training, what a model sows into "losses" (means over
  its tokens) is added to the loss, and its "shares" to aux, both times the weight.
  """
  asked = {"mutable": ["losses", "shares"]} if train else {}
  out = _read(apply, params, batch, key, train, **asked)
  (x_BTD, state), told = out if train else (out, {})
  extra = dict(z_loss=z_loss if train else 0.0, logits_bytes=logits_bytes)
  loss, weight, aux = _scored(apply, params, x_BTD, batch, **extra)
  # A router's losses are no sums over tokens but products of means, so that one batch
  # is not exactly its micro-batches: these balance each for itself.
  loss += weight * sum(jax.tree.leaves(told.get("losses", {})))
  aux |= {name: weight * mean for name, (mean,) in told.get("shares", {}).items()}
  return loss, weight, aux if state is None else aux | {"carry": state.carried()}


def masked_lm(apply, params, batch, key, *, train=True, logits_bytes=2**28):
  """Cross-entropy of the hidden tokens, those with weights_BT (arXiv:1810.04805).

  The rest is as in `next_token`: the targets stand where they are hidden.
  """
  x_BTD = _features(apply, params, batch, key, train)
  return _scored(apply, params, x_BTD, batch, logits_bytes=logits_bytes)


def seq2seq(
  apply, params, batch, key, *, train=True, smoothing=0.0, logits_bytes=2**28
):
  """Cross-entropy of the tokens that follow from source_BS, summed with weights_BT.

  Training, a share `smoothing` of every target is spread evenly over the vocabulary
  (arXiv:1512.00567; 0.1 in arXiv:1706.03762). aux is as in `next_token`, "nll" being
  the loss without smoothing.
  """
  if not 0 <= smoothing < 1:
    raise ValueError(f"smoothing={smoothing:g}; wanted 0 or more, less than 1")
  x_BTD = _features(apply, params, batch, key, train)
  extra = dict(smoothing=smoothing if train else 0.0)
  return _scored(apply, params, x_BTD, batch, logits_bytes=logits_bytes, **extra)


def next_sentence(apply, params, batch, key, *, train=True, logits_bytes=2**28):
  """BERT's two losses (arXiv:1810.04805): hidden tokens, and whether B follows A.

  next_BC says the latter, 0 for yes. Each row's loss of it counts as much as all its
  hidden tokens, so that the mean of the sum is the sum of the two means. aux is as in
  `next_token`, of the hidden tokens, with "rows" and of these "rows_correct".
  """
  x_BTD = _features(apply, params, batch, key, train)
  loss, weight, aux = _scored(apply, params, x_BTD, batch, logits_bytes=logits_bytes)
  logits_BC = apply({"params": params}, x_BTD, method="next_sentence")
  nll_B1, _ = cross_entropy(logits_BC[:, None], batch["next_BC"])
  count_B = jnp.sum(batch["weights_BT"], axis=1)
  right_B = jnp.argmax(logits_BC, axis=1) == batch["next_BC"][:, 0]
  aux["rows"] = jnp.sum(count_B > 0)
  aux["rows_correct"] = jnp.sum(right_B & (count_B > 0))
  return loss + jnp.sum(nll_B1[:, 0] * count_B), weight, aux


def _features(apply, params, batch, key, train):
  """x_BTD of a batch; `key` is for dropout."""
  return _read(apply, params, batch, key, train)[0]


def _read(apply, params, batch, key, train, **more):
  """x_BTD and, of a batch that goes on where another ended, the state after it."""
  more |= {name: batch[name] for name in READ if name in batch}
  if "carry" in batch:
    more["cache"] = State.resumed(batch["carry"])
  rngs = {"dropout": key} if train else {}
  return apply(
    {"params": params},
    batch["tokens_BT"],
    train=train,
    rngs=rngs,
    method="features",
    **more,
  )


def _scored(apply, params, x_BTD, batch, *, logits_bytes, **extra):
  """(loss_sum, weight, aux) of the readout of x_BTD against the targets of a batch."""
  names = [k for k in ("targets_BT", "weights_BT", "bytes_BT") if k in batch]
  piece = {"x_BTD": x_BTD} | {name: batch[name] for name in names}
  readout = lambda x_BTD: apply({"params": params}, x_BTD, method="readout")
  sums = lambda piece: _sums(readout(piece["x_BTD"]), piece, **extra)
  shape = jax.eval_shape(readout, x_BTD).shape
  count = min(shape[1], math.ceil(_device_bytes(shape) / logits_bytes))
  if count > 1:
    pieces = jax.tree.map(lambda x: _cut(x, count), piece)
    total = _map_sum(jax.checkpoint(sums, prevent_cse=False), pieces)
  else:
    total = sums(piece)
  return total.pop("loss"), total.pop("weight"), total


def _sums(logits_BTV, piece, z_loss=0.0, smoothing=0.0):
  """All that is summed, of one piece of the batch."""
  targets_BT, weights_BT = piece["targets_BT"], piece["weights_BT"]
  nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
  fixed_BTV = jax.lax.stop_gradient(logits_BTV)
  # Not argmax: on CPU that takes longer than the whole cross-entropy.
  correct_BT = _pick(fixed_BTV, targets_BT) >= jnp.max(fixed_BTV, axis=-1)
  nll = loss = jnp.sum(nll_BT * weights_BT)
  if z_loss:
    loss += z_loss * jnp.sum(log_z_BT**2 * weights_BT)
  if smoothing:
    even = jnp.sum((log_z_BT - _mean(logits_BTV)) * weights_BT)
    loss = (1 - smoothing) * loss + smoothing * even
  total = {
    "loss": loss,
    "weight": jnp.sum(weights_BT),
    "nll": nll,
    "correct": jnp.sum(correct_BT * weights_BT),
  }
  if "bytes_BT" in piece:
    bytes_BT = piece["bytes_BT"]
    total["bytes"] = jnp.sum(bytes_BT * weights_BT)
    total["byte_nats"] = jnp.sum(jnp.where(bytes_BT > 0, nll_BT * weights_BT, 0))
  return total


def _mean(logits_BTV):
  """The mean logit of the vocabulary, its padding left out."""
  real_BTV = logits_BTV > jnp.finfo(jnp.float32).min / 2
  total_BT = jnp.sum(jnp.where(real_BTV, logits_BTV, 0), axis=-1)
  return total_BT / jnp.sum(real_BTV, axis=-1)


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
