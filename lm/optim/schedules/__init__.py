"""Learning rates as functions of the step.

Each is made as `schedule(lr, warmup, num_steps, final)`, `final` being a share of lr,
and takes the number of updates made before.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp

COOLDOWN = 0.2  # wsd's last part; arXiv:2405.18392 finds 10-20 % to be enough


def cosine(lr, warmup, num_steps, final) -> Callable:
  """Half a cosine from lr, after the warm-up, to final * lr at num_steps."""

  def fall(step):
    done = jnp.clip((step - warmup) / max(1, num_steps - warmup), 0, 1)
    return final + (1 - final) * (1 + jnp.cos(math.pi * done)) / 2

  return _warmed(lr, warmup, fall)


def linear(lr, warmup, num_steps, final) -> Callable:
  """A straight line from lr, after the warm-up, to final * lr at num_steps.

  arXiv:2502.15938 finds that to 0 it ends lower than a cosine.
  """
  return _warmed(lr, warmup, _line(warmup, num_steps, final))


def wsd(lr, warmup, num_steps, final) -> Callable:
  """Warm-up, stable, decay: lr, then a straight line to final * lr at num_steps.

  The line takes the last COOLDOWN of the steps (MiniCPM, arXiv:2404.06395).
  """
  start = max(warmup, num_steps - round(COOLDOWN * num_steps))
  return _warmed(lr, warmup, _line(start, num_steps, final))


def inverse_sqrt(lr, warmup, num_steps, final) -> Callable:
  """lr * sqrt(warmup / step) after the warm-up, never below final * lr.

  From "Attention Is All You Need"; does not depend on num_steps.
  """
  fall = lambda step: jnp.sqrt(max(1, warmup) / jnp.maximum(step + 1, max(1, warmup)))
  return _warmed(lr, warmup, lambda step: jnp.maximum(final, fall(step)))


def constant(lr, warmup, num_steps, final) -> Callable:
  """lr after the warm-up; takes no notice of num_steps and final."""
  return _warmed(lr, warmup, lambda step: jnp.ones_like(step, jnp.float32))


def _line(start, num_steps, final):
  """1 until `start`, then a straight line to `final` at num_steps."""

  def fall(step):
    done = jnp.clip((step - start) / max(1, num_steps - start), 0, 1)
    return 1 - (1 - final) * done

  return fall


def _warmed(lr, warmup, fall):
  """`fall` under a linear warm-up: lr / warmup at step 0, so that no step is lost."""

  def schedule(step):
    step = jnp.asarray(step)
    return lr * jnp.minimum(1, (step + 1) / max(1, warmup)) * fall(step)

  return schedule


SCHEDULES = dict(
  cosine=cosine, linear=linear, wsd=wsd, inverse_sqrt=inverse_sqrt, constant=constant
)
