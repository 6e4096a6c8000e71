"""Sinusoidal positions."""

import jax.numpy as jnp


def sinusoids(positions, D: int):
  """Reangles vectors BTD for positions BT, or 1TD for 1T (arXiv:1706.03762, 3.5).

  All sines stand before all cosines, as in the authors' code.
  """
  half = -(-D // 2)
  speeds = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1))
  angles = positions[..., None].astype(jnp.float32) * speeds[None, None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :D]
