"""Where a token stands: rotary angles (learned positions are an Embedding)."""

import jax
import jax.numpy as jnp

POSITIONS = ("learned", "rotary")


def rotary(positions: jax.Array, H: int, theta: float):
  """cos_BTH and sin_BTH of RoFormer (arXiv:2104.09864), H/2 angles said twice.

  `positions` are BT, or 1T when all rows have the same; so is what comes out.
  """
  half = jnp.arange(H // 2, dtype=jnp.float32)
  speeds = theta ** (-2.0 * half / H)
  half_turns = positions[..., None].astype(jnp.float32) * speeds[None, None]
  turns = jnp.concatenate([half_turns, half_turns], axis=-1)
  return jnp.cos(turns), jnp.sin(turns)


def rotate(x_BTNH: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Queries or keys turned by position. Pairs (i, i + H/2), as Llama does."""
  half = x_BTNH.shape[-1] // 2
  turned_BTNH = jnp.concatenate([-x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
  return x_BTNH * cos[:, :, None] + turned_BTNH * sin[:, :, None]
