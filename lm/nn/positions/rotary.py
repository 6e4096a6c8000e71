"""Where a token stands: rotary angles (learned positions are an Embedding).

Ways to reach rows longer than a model was trained with: `linear` stretches every angle
(arXiv:2306.15595); `ntk` stretches slow ones more than fast ones, by a larger base
(section 3.1 of YaRN); `yarn` stretches those that turn seldom, in a ramp over the
dimensions, and sharpens the softmax (arXiv:2309.00071); `llama3` does so in a ramp over
the turns (Llama 3.1, arXiv:2407.21783).
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lm.errors import Mistake, not_negative, one_of, positive
from lm.nn import cpu

POSITIONS = ("learned", "rotary")
SCALINGS = ("none", "linear", "ntk", "yarn", "llama3")


@dataclass(frozen=True)
class Rope:
  """Rotary angles: their base, and how they are stretched to longer rows."""

  theta: float = 10_000.0  # base of the wavelengths
  rotary_share: float = 1.0  # of each head, from its start; the rest is not turned
  scaling: str = "none"  # see above
  factor: float = 1.0  # how much longer rows may become
  original_context: int = 0  # that it was trained with (yarn, llama3)
  low_turns: float = 1.0  # in that context; what turns less is stretched by `factor`
  high_turns: float = 4.0  # what turns more is left alone; 32 is usual for yarn
  attention_factor: float = 0.0  # of cos and sin (yarn); 0 means 0.1 log(factor) + 1

  def __post_init__(self):
    one_of("scaling", self.scaling, SCALINGS)
    positive(self, "theta", "factor", "low_turns", "high_turns")
    not_negative(self, "original_context", "attention_factor")
    if not 0 < self.rotary_share <= 1:
      raise Mistake(f"rotary_share={self.rotary_share}; wanted more than 0, up to 1")
    if self.factor < 1:
      raise Mistake(f"factor={self.factor}; wanted 1 or more")
    if self.factor > 1 and self.scaling == "none":
      raise Mistake(
        f"factor={self.factor:g} without a scaling; choose one of "
        f"{', '.join(SCALINGS[1:])}"
      )
    if self.scaling in ("yarn", "llama3"):
      if self.original_context < 1:
        raise Mistake(
          f"scaling={self.scaling!r} needs original_context, the context that the "
          "model was trained with"
        )
      if self.low_turns >= self.high_turns:
        raise Mistake(
          f"low_turns={self.low_turns:g}, high_turns={self.high_turns:g}; wanted "
          "low_turns < high_turns"
        )

  def size(self, H: int) -> int:
    """How many of a head's H dimensions are turned; Mistake when they are odd."""
    size = int(H * self.rotary_share)
    if size < 2 or size % 2:
      share = f" (share {self.rotary_share:g} of {H})" if size != H else ""
      raise Mistake(f"rotary positions need an even head size, got {size}{share}")
    return size


def rotary(positions: jax.Array, H: int, rope: Rope):
  """cos_BTH and sin_BTH of RoFormer (arXiv:2104.09864), H/2 angles said twice.

  `positions` are BT, or 1T when all rows have the same; so is what comes out. Where
  only a share of a head is turned, H is that share.
  """
  speeds, stretch = _speeds(rope.size(H), rope)
  half_turns = positions[..., None].astype(jnp.float32) * speeds[None, None]
  turns = jnp.concatenate([half_turns, half_turns], axis=-1)
  cos, sin = jnp.cos(turns), jnp.sin(turns)
  if stretch != 1:
    cos, sin = cos * stretch, sin * stretch
  return cpu.copy(cos), cpu.copy(sin)


def _speeds(R: int, rope: Rope):
  """Radians per position of every pair, and a factor for their cos and sin."""
  base = rope.theta
  if rope.scaling == "ntk":
    base *= rope.factor ** (R / max(R - 2, 1))
  half = jnp.arange(R // 2, dtype=jnp.float32)
  speeds = base ** (-2.0 * half / R)
  if rope.scaling == "linear":
    return speeds / rope.factor, 1
  if rope.scaling == "llama3":
    turns = speeds * (rope.original_context / (2 * math.pi))
    kept = (turns - rope.low_turns) / (rope.high_turns - rope.low_turns)
    return _stretched(speeds, kept, rope.factor), 1
  if rope.scaling == "yarn":
    # The pair (not a whole number) that turns so often in the original context.
    pair = lambda turns: (
      R
      * math.log(rope.original_context / (turns * 2 * math.pi))
      / (2 * math.log(rope.theta))
    )
    first = max(math.floor(pair(rope.high_turns)), 0)
    last = min(math.ceil(pair(rope.low_turns)), R - 1)
    kept = 1 - (half - first) / max(last - first, 1e-3)
    stretch = rope.attention_factor or 0.1 * math.log(rope.factor) + 1
    return _stretched(speeds, kept, rope.factor), stretch
  return speeds, 1


def _stretched(speeds, kept, factor):
  """Speeds of which the share `kept`, held within 0 and 1, stays; the rest slows."""
  kept = jnp.clip(kept, 0, 1)
  return speeds * kept + speeds / factor * (1 - kept)


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Queries or keys turned by position. Pairs (i, i + H/2), as Llama does.

  Where cos and sin are smaller than H, only so much of the head is turned.
  """
  size = cos.shape[-1]
  if size < x_BTNH.shape[-1]:
    turned = rotate(x_BTNH[..., :size], cos, sin)
    return jnp.concatenate([turned, x_BTNH[..., size:]], axis=-1)
  half = size // 2
  turned_BTNH = jnp.concatenate([-x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
  return x_BTNH * cos[:, :, None] + turned_BTNH * sin[:, :, None]
