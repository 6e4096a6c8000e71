"""Intervals: what a sample of this size can tell."""

import numpy as np

SAMPLES = 2_000  # of a bootstrap
CHUNK = 1 << 24  # random numbers at a time
Z = 1.959964  # of a two-sided 95 % interval of the normal distribution


def wilson(hits: int, total: int) -> tuple[float, float]:
  """Returns the 95 % interval of a share (Wilson 1927, JASA 22)."""
  share, z2 = hits / total, Z**2
  centre = (share + z2 / (2 * total)) / (1 + z2 / total)
  half = Z * (share * (1 - share) / total + z2 / (4 * total**2)) ** 0.5
  half /= 1 + z2 / total
  return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(parts_RO, statistic=None) -> tuple[float, float]:
  """Returns the 95 % interval of a statistic of R records, drawn again and again.

  `parts_RO` are the numbers that a record adds to the sums that the statistic is made
  of; `statistic` takes such sums [..., O] to numbers [...]. By default it is the mean
  of one number a record: parts_R.
  """
  parts_RO = np.asarray(parts_RO, np.float64)
  if statistic is None:
    parts_RO = np.stack([parts_RO, np.ones_like(parts_RO)], axis=-1)
    statistic = lambda sums_O: sums_O[..., 0] / sums_O[..., 1]
  samples = resamples(len(parts_RO))
  return quantiles([statistic(times_BR @ parts_RO) for times_BR in samples])


def resamples(R: int):
  """Yields times_BR, how often each of R records is drawn; SAMPLES samples in all."""
  rng = np.random.default_rng(0)
  at_once = max(1, CHUNK // R)
  for start in range(0, SAMPLES, at_once):
    size = min(at_once, SAMPLES - start)
    yield rng.multinomial(R, np.full(R, 1 / R), size=size)


def quantiles(values) -> tuple[float, float]:
  """Returns what the middle 95 % of the values of all samples lie between."""
  low, high = np.quantile(np.concatenate(values), (0.025, 0.975))
  return float(low), float(high)
