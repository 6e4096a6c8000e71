"""From logits to one token a row: repetition penalty, temperature, filters, choice.

The filters and their order are those of `transformers` (penalty, temperature, top-k,
top-p, min-p), so that settings from elsewhere mean the same here. Three things differ
in how, not in what, because a row of logits is long (V = 50,000):
- no sort: the cut is looked for among the 128 best tokens, and where these are not
  enough by bisection over the bits of a float. Sorting 16 rows takes 290 ms on two CPU
  cores, more than the model itself; this takes 2 to 25 ms;
- two uniform numbers a row instead of one Gumbel number a token (42 ms against 1 ms);
- whatever no row asks for is skipped at run time.
Every row is computed on its own, with a key of its own: its token does not depend on
its neighbours, nor on how far the batch is padded.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from lm.errors import Mistake

CANDIDATES = 128  # the tokens a cut is looked for among first; 1.8 ms for 16 rows


@struct.dataclass
class Sampling:
  """How to choose a token. Plain numbers, or one number a row; never compiled in."""

  temperature: float = 1.0  # 0 is greedy
  top_k: int = 0  # keep the k best; 0 is off
  top_p: float = 1.0  # keep the fewest tokens that have this much of the mass
  min_p: float = 0.0  # keep tokens at least this likely, relative to the best
  repetition_penalty: float = 1.0  # above 1 makes tokens seen before less likely

  def rows(self, batch: int, size: int):
    """These settings as arrays of `size` rows; those after `batch` cost nothing."""
    off = Sampling(temperature=0.0)

    def spread(name, value):
      dtype = np.int32 if name == "top_k" else np.float32
      value_B = np.full(size, getattr(off, name), dtype)
      value_B[:batch] = value
      return value_B

    return Sampling(**{name: spread(name, value) for name, value in vars(self).items()})


def check(sampling: Sampling):
  """Raises Mistake naming the first setting that makes no sense."""
  wanted = {
    "temperature": ("0 (greedy) or more", lambda x: 0 <= x < math.inf),
    "top_k": ("0 (off) to 2**31 - 1", lambda x: 0 <= x < 2**31 and x == int(x)),
    "top_p": ("above 0, at most 1 (off)", lambda x: 0 < x <= 1),
    "min_p": ("from 0 (off) to 1", lambda x: 0 <= x <= 1),
    "repetition_penalty": ("above 0 (1 is off)", lambda x: 0 < x < math.inf),
  }
  for name, (words, holds) in wanted.items():
    if not holds(getattr(sampling, name)):
      raise Mistake(f"{name} must be {words}, got {getattr(sampling, name)}")


def penalise(logits_BV, seen_BV, penalty_B):
  """Logits, made less likely where seen (Keskar et al. 2019, arXiv:1909.05858)."""
  penalty_B1 = penalty_B[:, None]
  worse_BV = jnp.where(logits_BV < 0, logits_BV * penalty_B1, logits_BV / penalty_B1)
  return jnp.where(seen_BV, worse_BV, logits_BV)


def keep_top_k(logits_BV, top_k_B):
  """Logits, -inf for all but the k best and those equal to the last of them."""
  top_k_B = jnp.where(top_k_B > 0, top_k_B, logits_BV.shape[1])
  return _keep(logits_BV, jnp.ones_like(logits_BV), top_k_B.astype(jnp.float32))


def keep_top_p(logits_BV, top_p_B):
  """Logits, -inf outside the nucleus (Holtzman et al. 2020, arXiv:1904.09751)."""
  return _keep(logits_BV, jax.nn.softmax(logits_BV), top_p_B)


def keep_min_p(logits_BV, min_p_B):
  """Logits, -inf where the probability is below min_p times the best one's."""
  best_B1 = jnp.max(logits_BV, axis=1, keepdims=True)
  return jnp.where(
    logits_BV >= best_B1 + jnp.log(min_p_B)[:, None], logits_BV, -jnp.inf
  )


def _keep(logits_BV, mass_BV, wanted_B):
  """Logits, -inf but for the fewest best ones whose masses add up to `wanted`.

  Logits that equal the last one kept are kept as well. A row looks for its cut by
  bisection only where its own candidates do not suffice, so what happens to it is
  independent of the other rows. All are kept where even all are not enough (rounding).
  """
  size = min(CANDIDATES, logits_BV.shape[1])
  best_BC, index_BC = lax.top_k(logits_BV, size)
  sums_BC = jnp.cumsum(jnp.take_along_axis(mass_BV, index_BC, axis=1), axis=1)
  enough_BC = sums_BC >= wanted_B[:, None]
  first_B1 = jnp.argmax(enough_BC, axis=1)[:, None]
  near_B = _ordered(jnp.take_along_axis(best_BC, first_B1, axis=1))[:, 0]
  found_B = enough_BC[:, -1]
  order_BV = _ordered(logits_BV)

  def bisect():
    def bit(i, cut_B):
      higher_B = cut_B | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
      above_BV = order_BV >= higher_B[:, None]
      sum_B = jnp.sum(jnp.where(above_BV, mass_BV, 0), axis=1)
      return jnp.where(sum_B >= wanted_B, higher_B, cut_B)

    return lax.fori_loop(0, 32, bit, jnp.zeros_like(near_B))

  far_B = lax.cond(jnp.all(found_B), lambda: near_B, bisect)
  cut_B = jnp.where(found_B, near_B, far_B)
  return jnp.where(order_BV >= cut_B[:, None], logits_BV, -jnp.inf)


def _ordered(x):
  """uint32 that sort as the floats do: the bits, flipped so that order is kept."""
  bits = lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.uint32)  # no -0.0
  return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


def filtered(logits_BV, sampling):
  """Logits over temperature, -inf for every token that must not be drawn."""
  s = sampling
  warmth_B = jnp.where(s.temperature > 0, s.temperature, 1.0)
  scores_BV = logits_BV / warmth_B[:, None]
  for asked_B, keep, value_B in (
    (s.top_k > 0, keep_top_k, s.top_k),
    (s.top_p < 1, keep_top_p, s.top_p),
    (s.min_p > 0, keep_min_p, s.min_p),
  ):

    def apply(x_BV, asked_B=asked_B, keep=keep, value_B=value_B):
      return jnp.where(asked_B[:, None], keep(x_BV, value_B), x_BV)

    scores_BV = lax.cond(jnp.any(asked_B), apply, lambda x_BV: x_BV, scores_BV)
  return scores_BV


def best(logits_BV):
  """The likeliest token, the first among equals: jnp.argmax, 3 times faster on CPU."""
  size = logits_BV.shape[1]
  index_BV = lax.broadcasted_iota(jnp.int32, logits_BV.shape, 1)
  top_B1 = jnp.max(logits_BV, axis=1, keepdims=True)
  first_B = jnp.min(jnp.where(logits_BV == top_B1, index_BV, size), axis=1)
  return jnp.minimum(first_B, size - 1)  # a row of NaN has no best


def draw(scores_BV, keys_B):
  """A token from softmax(scores), by inverting its distribution function in two steps.

  First a stretch of about sqrt(V) tokens, then a token in it, each with a number of its
  own, so that 24 random bits do not limit how rare a token can be. Never returns a
  token of probability 0.
  """
  B, V = scores_BV.shape
  C = math.isqrt(V - 1) + 1
  weights_BV = jnp.exp(scores_BV - jnp.max(scores_BV, axis=1, keepdims=True))
  weights_BCC = jnp.pad(weights_BV, ((0, 0), (0, C * C - V))).reshape(B, C, C)
  uniform_B2 = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys_B)
  row_B = _invert(jnp.sum(weights_BCC, axis=2), uniform_B2[:, 0])
  weights_BC = jnp.take_along_axis(weights_BCC, row_B[:, None, None], axis=1)[:, 0]
  return row_B * C + _invert(weights_BC, uniform_B2[:, 1])


def _invert(weights_BC, uniform_B):
  # A sum in another order may fall by an ulp: only entries with weight are looked at.
  real_BC = weights_BC > 0
  sums_BC = jnp.where(real_BC, jnp.cumsum(weights_BC, axis=1), 0)
  goal_B = uniform_B * jnp.max(sums_BC, axis=1)
  return jnp.argmax(real_BC & (sums_BC > goal_B[:, None]), axis=1).astype(jnp.int32)


def choose(logits_BV, seen_BV, keys_B, sampling):
  """One token a row by its own settings and key."""
  logits_BV = lax.cond(
    jnp.any(sampling.repetition_penalty != 1),
    lambda x_BV: penalise(x_BV, seen_BV, sampling.repetition_penalty),
    lambda x_BV: x_BV,
    logits_BV,
  )
  greedy_B = best(logits_BV)
  drawn = sampling.temperature > 0
  return lax.cond(
    jnp.any(drawn),
    lambda: jnp.where(drawn, draw(filtered(logits_BV, sampling), keys_B), greedy_B),
    lambda: greedy_B,
  )
