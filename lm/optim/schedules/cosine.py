"""Half a cosine."""

import math

import jax.numpy as jnp

from lm.optim.schedules import progress, warmed_up


def cosine(lr, warmup, num_steps, final):
  """Half a cosine from lr, after the warm-up, to final * lr at num_steps.

  SGDR (arXiv:1608.03983) without restarts.
  """

  def shape(step):
    done = progress(step, warmup, num_steps)
    return final + (1 - final) * (1 + jnp.cos(math.pi * done)) / 2

  return warmed_up(lr, warmup, shape)
