"""What objectives over tokens share: features of a batch, and its targets scored."""

import math

import jax
import jax.numpy as jnp

from lm.letters import spec
from lm.nn.layers import VOCAB_MULTIPLE
from lm.nn.recurrent import State

# What a model reads beside its tokens, where a batch has it.
READ = ("segments_BT", "types_BT", "source_BS", "source_segments_BS")
SCORED = ("targets_BT", "weights_BT", "bytes_BT", "uniform_BT")  # and its logits


def features(apply, params, batch, key, train):
  """x_BTD of a batch; `key` is for dropout."""
  return read(apply, params, batch, key, train).x_BTD


def read(apply, params, batch, key, train, method="features", **more):
  """The Features of a batch, with the state after it if it carries one on."""
  more |= {name: batch[name] for name in READ if name in batch}
  if "carry" in batch:
    more["cache"] = State.resumed(batch["carry"])
  rngs = {"dropout": key} if train else {}
  return apply(
    {"params": params},
    batch["tokens_BT"],
    train=train,
    rngs=rngs,
    method=method,
    **more,
  )


def scored(apply, params, x_BTD, batch, *, logits_bytes, **extra):
  """(loss_sum, weight, aux) of the readout of x_BTD against the targets of a batch.

  For a batch with uniform_BT, drawn from [0, 1), aux has "sampled_BT", one token for
  each from the softmax.
  """
  piece = {"x_BTD": x_BTD} | {name: batch[name] for name in SCORED if name in batch}
  readout = lambda x_BTD: apply({"params": params}, x_BTD, method="readout")

  def one(piece):
    logits_BTV = readout(piece["x_BTD"])
    drawn = {}
    if "uniform_BT" in piece:
      drawn["sampled_BT"] = sample(logits_BTV, piece["uniform_BT"])
    return _sums(logits_BTV, piece, **extra), drawn

  shape = jax.eval_shape(readout, x_BTD).shape
  count = min(shape[1], math.ceil(_device_bytes(shape) / logits_bytes))
  if count > 1:
    pieces = jax.tree.map(lambda x: _cut(x, count), piece)
    total, drawn = _map_sum(jax.checkpoint(one, prevent_cse=False), pieces)
    drawn = jax.tree.map(lambda x: _uncut(x, shape[1]), drawn)
  else:
    total, drawn = one(piece)
  return total.pop("loss"), total.pop("weight"), total | drawn


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


def sample(logits_BTV, uniform_BT):
  """ids_BT from the softmax, by where uniform_BT falls in its running sums.

  No gradient goes through them. First a block of 128 ids is chosen, then one of it: one
  random number for a token, where Gumbel's trick would take one for every logit.
  """
  logits_BTV = jax.lax.stop_gradient(logits_BTV).astype(jnp.float32)
  B, T, V = logits_BTV.shape
  p_BTV = jnp.exp(logits_BTV - jnp.max(logits_BTV, axis=-1, keepdims=True))
  p_BTWP = p_BTV.reshape(B, T, -1, math.gcd(V, VOCAB_MULTIPLE))
  upto_BTW = jnp.cumsum(jnp.sum(p_BTWP, axis=-1), axis=-1)
  at_BT1 = uniform_BT[..., None] * upto_BTW[..., -1:]
  block_BT1 = _first_above(upto_BTW, at_BT1)
  passed_BTW = jnp.where(upto_BTW <= at_BT1, upto_BTW, 0)
  before_BT1 = jnp.max(passed_BTW, axis=-1, keepdims=True)
  in_BTP = jnp.take_along_axis(p_BTWP, block_BT1[..., None], axis=2)[:, :, 0]
  place_BT1 = _first_above(jnp.cumsum(in_BTP, axis=-1), at_BT1 - before_BT1)
  return (block_BT1 * p_BTWP.shape[-1] + place_BT1)[..., 0]


def _first_above(sums_BTW, at_BT1):
  """The first index whose sum is above; of equal sums it is the one that grew to it."""
  # Rounding must not lead beyond the last sum, to what has no probability.
  at_BT1 = jnp.minimum(at_BT1, sums_BTW[..., -1:] * (1 - jnp.finfo(jnp.float32).eps))
  return jnp.sum(sums_BTW <= at_BT1, axis=-1, keepdims=True)


def _pick(logits_BTV, targets_BT):
  """The targets' logits, in float32."""
  # Where V is sharded, XLA gathers on every device and adds up [B, T], not [B, T, V].
  picked = jnp.take_along_axis(logits_BTV, targets_BT[..., None], -1, mode="clip")
  return picked[..., 0].astype(jnp.float32)


def _device_bytes(shape_BTV) -> int:
  """The bytes of float32 logits on one device of the mesh, by the sharding rules."""
  mesh = jax.sharding.get_abstract_mesh()
  axes = [axis for axis in spec("BTV") if axis and not mesh.empty]
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


def _uncut(x, length):
  """[count, B, T / count] as [B, T], what `_cut` was given."""
  return jnp.moveaxis(x, 0, 2).reshape(x.shape[1], -1)[:, :length]


def _map_sum(function, pieces):
  """The sum of the first, a tree, of what function(piece) gives, and all of the second.

  One piece after the other, over the first dimension.
  """

  def add(total, piece):
    one, more = function(piece)
    return jax.tree.map(jnp.add, total, one), more

  first = jax.tree.map(lambda x: x[0], pieces)
  shapes, _ = jax.eval_shape(function, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  return jax.lax.scan(add, zeros, pieces)
