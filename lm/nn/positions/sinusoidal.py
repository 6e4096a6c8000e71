"""Sinusoidal positions (arXiv:1706.03762, section 3.5)."""

import jax.numpy as jnp


def sinusoids(positions, D: int):
  """Returns vectors BTD for positions BT, or 1TD for 1T, as the authors' code does.

  All sines stand before all cosines, and the slowest turns 10,000 times slower than the
  first.
  """
  half = -(-D // 2)
  speeds = 10_000.0 ** (-jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1))
  return _waves(positions, speeds, D)


def sinusoids_as_printed(positions, D: int):
  """Returns vectors BTD for positions BT, or 1TD for 1T, by the paper's formula.

  Its speeds are 10,000**(-2i / D); as in `sinusoids` all sines stand before all
  cosines.
  """
  half = jnp.arange(-(-D // 2), dtype=jnp.float32)
  return _waves(positions, 10_000.0 ** (-2 * half / D), D)


def _waves(positions, speeds, D: int):
  angles = positions[..., None].astype(jnp.float32) * speeds[None, None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :D]
