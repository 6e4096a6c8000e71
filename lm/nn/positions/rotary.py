"""Rotary positions (RoFormer, arXiv:2104.09864), and their scaling to longer rows.

Scalings reach rows longer than those of training: `linear` divides every angle by the
factor (arXiv:2306.15595); `ntk` divides slow angles by more than fast ones, by a larger
base (section 3.1 of YaRN); `yarn` divides the angles that make few turns in the
original context, with a ramp over the dimensions, and sharpens the softmax
(arXiv:2309.00071); `llama3` does so with a ramp over the turns (arXiv:2407.21783).
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
  """The base of rotary angles, and their scaling to longer rows."""

  theta: float = 10_000.0  # base of the wavelengths
  rotary_share: float = 1.0  # of each head, from its start; the rest is not rotated
  scaling: str = "none"  # of angles to a longer context: one of SCALINGS
  factor: float = 1.0  # longest row / original context
  original_context: int = 0  # of training (yarn, llama3)
  # Angles of fewer turns in the original context are divided by `factor`.
  low_turns: float = 1.0
  high_turns: float = 4.0  # angles of more are not scaled; 32 is usual for yarn
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
    """Returns how many of H dimensions are rotated; raises Mistake if it is odd."""
    size = int(H * self.rotary_share)
    if size < 2 or size % 2:
      share = f" (share {self.rotary_share:g} of {H})" if size != H else ""
      raise Mistake(f"rotary positions need an even head size, got {size}{share}")
    return size


def rotary(positions: jax.Array, H: int, rope: Rope):
  """Returns cos and sin BTH of the angles, each of H/2 angles in both halves.

  `positions` are BT, or 1T when all rows have the same, and the results 1TH. When only
  a share of a head is rotated, the H of the results is that share.
  """
  speeds, stretch = _speeds(rope.size(H), rope)
  half = positions[..., None].astype(jnp.float32) * speeds[None, None]
  angles = jnp.concatenate([half, half], axis=-1)
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  if stretch != 1:
    cos, sin = cos * stretch, sin * stretch
  return cpu.copy(cos), cpu.copy(sin)


def _speeds(size: int, rope: Rope):
  """Returns the radians per position of each pair, and a factor of cos and sin."""
  base = rope.theta
  if rope.scaling == "ntk":
    base *= rope.factor ** (size / max(size - 2, 1))
  half = jnp.arange(size // 2, dtype=jnp.float32)
  speeds = base ** (-2.0 * half / size)
  if rope.scaling == "linear":
    return speeds / rope.factor, 1
  if rope.scaling == "llama3":
    turns = speeds * (rope.original_context / (2 * math.pi))
    kept = (turns - rope.low_turns) / (rope.high_turns - rope.low_turns)
    return _stretched(speeds, kept, rope.factor), 1
  if rope.scaling == "yarn":
    # The pair (not a whole number) of so many turns in the original context.
    pair = lambda turns: (
      size
      * math.log(rope.original_context / (turns * 2 * math.pi))
      / (2 * math.log(rope.theta))
    )
    first = max(math.floor(pair(rope.high_turns)), 0)
    last = min(math.ceil(pair(rope.low_turns)), size - 1)
    kept = 1 - (half - first) / max(last - first, 1e-3)
    stretch = rope.attention_factor or 0.1 * math.log(rope.factor) + 1
    return _stretched(speeds, kept, rope.factor), stretch
  return speeds, 1


def _stretched(speeds, kept, factor):
  """Returns kept * speeds + (1 - kept) * speeds / factor, `kept` clipped to [0, 1]."""
  kept = jnp.clip(kept, 0, 1)
  return speeds * kept + speeds / factor * (1 - kept)


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Returns queries or keys rotated by position, in pairs (i, i + H/2) as in Llama.

  When cos and sin are smaller than H, only so much of each head is rotated.
  """
  size = cos.shape[-1]
  if size < x_BTNH.shape[-1]:
    rotated = rotate(x_BTNH[..., :size], cos, sin)
    return jnp.concatenate([rotated, x_BTNH[..., size:]], axis=-1)
  half = size // 2
  exchanged_BTNH = jnp.concatenate([-x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
  return x_BTNH * cos[:, :, None] + exchanged_BTNH * sin[:, :, None]
