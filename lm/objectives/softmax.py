"""The cross-entropy of logits against targets, and tokens sampled from logits."""

import math

import jax
import jax.numpy as jnp

from lm.errors import Mistake
from lm.nn import cpu
from lm.nn.layers import VOCAB_MULTIPLE


@jax.custom_jvp
def cross_entropy(logits_BTV, targets_BT):
  """Returns (nll_BT, log_z_BT): -log softmax at the targets, and the log normaliser.

  In float32, stable for logits of any size; leading dimensions are arbitrary. The
  backward pass keeps the probabilities; JAX's own rule would keep the logits as well,
  twice the memory. Targets outside the vocabulary are clipped to it: give them weight
  0.
  """
  log_z_BT = cpu.logsumexp(logits_BTV)
  return log_z_BT - pick(logits_BTV, targets_BT), log_z_BT


@cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
  logits_BTV, targets_BT = primals
  tangent_BTV = tangents[0].astype(jnp.float32)
  nll_BT, log_z_BT = cross_entropy(logits_BTV, targets_BT)
  probs_BTV = jnp.exp(logits_BTV - log_z_BT[..., None])
  log_z_tangent_BT = jnp.sum(probs_BTV * tangent_BTV, axis=-1)
  # Not `pick`, whose transposition is a scatter where this one is elementwise.
  last = logits_BTV.ndim - 1
  ids_BTV = jax.lax.broadcasted_iota(jnp.int32, logits_BTV.shape, last)
  is_target_BTV = ids_BTV == targets_BT[..., None]
  picked_BT = jnp.sum(jnp.where(is_target_BTV, tangent_BTV, 0), axis=-1)
  return (nll_BT, log_z_BT), (log_z_tangent_BT - picked_BT, log_z_tangent_BT)


def divergence(teacher_BTV, student_BTV, temperature=1.0):
  """Returns kl_BT: KL(teacher || student) of two softmaxes at a temperature, in nats.

  In float32; leading dimensions are arbitrary. Masked logits of a padded vocabulary
  stay finite at any temperature, and add nothing to the sum or its gradient.
  """
  least = jnp.finfo(jnp.float32).min
  teacher_BTV, student_BTV = (
    jax.nn.log_softmax(jnp.maximum(x.astype(jnp.float32) / temperature, least))
    for x in (teacher_BTV, student_BTV)
  )
  return jnp.sum(jnp.exp(teacher_BTV) * (teacher_BTV - student_BTV), axis=-1)


def check_mixture(temperature, alpha):
  """Raises Mistake for a temperature or a share of a distillation out of range."""
  if temperature <= 0:
    raise Mistake(f"loss.temperature={temperature}; wanted more than 0")
  if not 0 <= alpha <= 1:
    raise Mistake(f"loss.alpha={alpha}; wanted 0 to 1")


def mixture(sums: dict, kl, weight, *, temperature, alpha) -> dict:
  """Returns the sums with alpha T^2 KL + (1 - alpha) nats as loss, and "divergence".

  `sums` has the nats as "loss"; T^2 keeps the gradient of the divergence, of softmaxes
  at the temperature T, as large as at T = 1. `weight` is that of both new sums.
  """
  nats, _ = sums["loss"]
  loss = alpha * temperature**2 * kl + (1 - alpha) * nats
  return sums | {"loss": (loss, weight), "divergence": (kl, weight)}


def pick(logits_BTV, targets_BT):
  """Returns the targets' logits, in float32."""
  # Where V is sharded, XLA gathers on every device and adds up [B, T], not [B, T, V].
  picked = jnp.take_along_axis(logits_BTV, targets_BT[..., None], -1, mode="clip")
  return picked[..., 0].astype(jnp.float32)


def mean_logit(logits_BTV):
  """Returns the mean logit over the vocabulary, without its padding."""
  is_real_BTV = logits_BTV > jnp.finfo(jnp.float32).min / 2
  total_BT = jnp.sum(jnp.where(is_real_BTV, logits_BTV, 0), axis=-1)
  return total_BT / jnp.sum(is_real_BTV, axis=-1)


def sample(logits_BTV, uniform_BT):
  """Returns ids_BT drawn from the softmax by inverting its distribution function.

  uniform_BT is drawn from [0, 1). No gradient flows through the ids. A block of 128 ids
  is chosen first, then one id of it: one random number a token, where Gumbel's trick
  would take one for every logit.
  """
  logits_BTV = jax.lax.stop_gradient(logits_BTV).astype(jnp.float32)
  B, T, V = logits_BTV.shape
  p_BTV = jnp.exp(logits_BTV - jnp.max(logits_BTV, axis=-1, keepdims=True))
  p_BTYO = p_BTV.reshape(B, T, -1, math.gcd(V, VOCAB_MULTIPLE))
  cumulative_BTY = jnp.cumsum(jnp.sum(p_BTYO, axis=-1), axis=-1)
  goal_BT1 = uniform_BT[..., None] * cumulative_BTY[..., -1:]
  block_BT1 = _first_above(cumulative_BTY, goal_BT1)
  passed_BTY = jnp.where(cumulative_BTY <= goal_BT1, cumulative_BTY, 0)
  before_BT1 = jnp.max(passed_BTY, axis=-1, keepdims=True)
  p_BTO = jnp.take_along_axis(p_BTYO, block_BT1[..., None], axis=2)[:, :, 0]
  offset_BT1 = _first_above(jnp.cumsum(p_BTO, axis=-1), goal_BT1 - before_BT1)
  return (block_BT1 * p_BTYO.shape[-1] + offset_BT1)[..., 0]


def _first_above(cumulative_BTY, goal_BT1):
  """Returns the first index whose sum exceeds the goal (of equal sums, the first)."""
  # Rounding must not lead past the last sum, to an id that has no probability.
  most_BT1 = cumulative_BTY[..., -1:] * (1 - jnp.finfo(jnp.float32).eps)
  goal_BT1 = jnp.minimum(goal_BT1, most_BT1)
  return jnp.sum(cumulative_BTY <= goal_BT1, axis=-1, keepdims=True)
