"""Where a token stands: rotary angles (learned positions are an Embedding)."""

import jax
import jax.numpy as jnp


def rotary(positions_BT: jax.Array, H: int, theta: float):
  """cos_BTH and sin_BTH of RoFormer (arXiv:2104.09864), H/2 angles said twice."""
  half = jnp.arange(H // 2, dtype=jnp.float32)
  angles_BTH = positions_BT[..., None].astype(jnp.float32) * theta ** (-2.0 * half / H)
  angles_BTH = jnp.concatenate([angles_BTH, angles_BTH], axis=-1)
  return jnp.cos(angles_BTH), jnp.sin(angles_BTH)


def rotate(x_BTNH: jax.Array, cos_BTH: jax.Array, sin_BTH: jax.Array) -> jax.Array:
  """Queries or keys turned by position. Pairs (i, i + H/2), as Llama does."""
  half = x_BTNH.shape[-1] // 2
  turned_BTNH = jnp.concatenate([-x_BTNH[..., half:], x_BTNH[..., :half]], axis=-1)
  return x_BTNH * cos_BTH[:, :, None] + turned_BTNH * sin_BTH[:, :, None]
