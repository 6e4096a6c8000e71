"""Warm-up, stable, decay."""

from lm.optim.schedules import progress, warmed_up

COOLDOWN = 0.2  # share of the steps; arXiv:2405.18392 finds 10-20 % to be enough


def wsd(lr, warmup, num_steps, final):
  """lr after the warm-up, then a straight line to final * lr at num_steps.

  The line takes the last COOLDOWN of the steps (MiniCPM, arXiv:2404.06395).
  """
  start = max(warmup, num_steps - round(COOLDOWN * num_steps))

  def shape(step):
    return 1 - (1 - final) * progress(step, start, num_steps)

  return warmed_up(lr, warmup, shape)
