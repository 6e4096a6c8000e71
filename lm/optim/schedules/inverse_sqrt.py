"""The schedule of the first Transformer."""

import jax.numpy as jnp

from lm.optim.schedules import warmed_up


def inverse_sqrt(lr, warmup, num_steps, final):
  """lr * sqrt(warmup / step) after the warm-up, never below final * lr.

  arXiv:1706.03762, section 5.3. It does not depend on num_steps.
  """
  first = max(1, warmup)

  def shape(step):
    return jnp.maximum(final, jnp.sqrt(first / jnp.maximum(step + 1, first)))

  return warmed_up(lr, warmup, shape)
