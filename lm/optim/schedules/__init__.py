"""Learning rates as functions of the step: one file, one schedule.

To add one, write `lm/optim/schedules/<name>.py` with a function of that name,

  def name(lr, warmup, num_steps, final) -> (step -> rate)

where `lr` is the peak, `warmup` and `num_steps` count steps, `final` is the share of lr
at the end, and `step` is the number of updates made before, possibly traced.
"""

from collections.abc import Callable

import jax.numpy as jnp


def warmed_up(lr, warmup, shape: Callable) -> Callable:
  """The schedule lr * shape(step), multiplied by a linear warm-up.

  The rate of step 0 is lr / warmup, not 0, so that no step is without effect.
  """

  def schedule(step):
    step = jnp.asarray(step)
    return lr * jnp.minimum(1, (step + 1) / max(1, warmup)) * shape(step)

  return schedule


def progress(step, start, end):
  """The share of the way from `start` to `end` that is done at `step`, 0 to 1."""
  return jnp.clip((step - start) / max(1, end - start), 0, 1)
