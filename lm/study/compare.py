"""Paired comparison of scores on the same items: intervals, p-values and a verdict.

Whatever makes an item hard makes it hard for both, so that the difference on each item
is all that counts. Its interval is that of a bootstrap of signed differences (Efron and
Tibshirani 1993, chapter 13), its p-value that of approximate randomisation (Noreen
1989; Riezler and Maxwell 2005, aclanthology W05-0908): the share of random exchanges of
the two scores, item by item, whose difference is as large. (A bootstrap of absolute
differences, as sacrebleu 2.6 has it, rejects equal systems in 12 % of cases at 0.05.)
"""

import math
from typing import NamedTuple

import numpy as np

from lm.scores import intervals

LEVEL = 0.05  # of a claim
TRIALS = 10_000  # random exchanges
POWER = 1.959964 + 0.841621  # standard errors that 4 of 5 samples of a size show
FEWEST = 6  # items: all in favour of one of two have p = 2 / 2 ** 6 = 0.03
DRAWN = 1 << 22  # numbers drawn at a time


class Paired(NamedTuple):
  """The difference of two scores, the second minus the first."""

  difference: float
  interval: tuple[float, float]  # 95 %
  p: float  # of a difference as large, were the two exchangeable
  detectable: float  # a difference that 4 of 5 samples of this size would show
  items: int
  differing: int  # items on which the two scores are not equal


def paired(first_R, second_R, weights_R=None, *, seed: int = 0) -> Paired:
  """Returns the comparison of two scores of each item.

  A score of all items is the sum of theirs, divided by their number or by the sum of
  `weights_R` (nats and bytes: nats per byte). Equal scores on all items have p = 1.
  """
  difference_R = np.asarray(second_R, np.float64) - np.asarray(first_R, np.float64)
  weights_R = _weights(difference_R, weights_R)
  count, total = difference_R.size, weights_R.sum()
  difference = float(difference_R.sum() / total)
  # The standard error of a ratio, linearised (Cochran 1977, section 6.3).
  rest_R = difference_R - difference * weights_R
  error = math.sqrt(float(rest_R @ rest_R) * count / max(1, count - 1)) / total
  return Paired(
    difference=difference,
    interval=bootstrap(difference_R, weights_R, seed=seed),
    p=randomisation(difference_R, seed=seed),
    detectable=float(POWER * error),
    items=count,
    differing=int(np.count_nonzero(difference_R)),
  )


def bootstrap(values_R, weights_R=None, *, seed: int = 0) -> tuple[float, float]:
  """Returns the 95 % interval of sum(values) / sum(weights), from resampled items."""
  values_R = np.asarray(values_R, np.float64)
  weights_R = _weights(values_R, weights_R)
  rng, count, parts = np.random.default_rng(seed), values_R.size, []
  for size in _sizes(intervals.SAMPLES, count):
    index = rng.integers(count, size=(size, count))
    parts.append(values_R[index].sum(1) / weights_R[index].sum(1))
  low, high = np.quantile(np.concatenate(parts), (0.025, 0.975))
  return float(low), float(high)


def randomisation(difference_R, *, seed: int = 0) -> float:
  """Returns the two-sided p-value of a sum of differences under exchanged signs.

  All exchanges are counted where they are no more than TRIALS, which for hits and
  misses is McNemar's exact test; otherwise TRIALS random ones, and p is (c + 1) /
  (TRIALS + 1). One as large as the observed sum counts, so that equal scores have p 1.
  """
  differing_R = np.asarray(difference_R, np.float64)
  differing_R = differing_R[differing_R != 0]
  count = differing_R.size
  bound = abs(differing_R.sum()) - 1e-9 * np.abs(differing_R).sum()  # rounding
  if 2**count <= TRIALS:
    bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    return float(np.mean(np.abs((2 * bits - 1) @ differing_R) >= bound))
  rng, hits = np.random.default_rng(seed), 0
  for size in _sizes(TRIALS, count):
    signs = 2.0 * rng.integers(2, size=(size, count), dtype=np.int8) - 1
    hits += int(np.sum(np.abs(signs @ differing_R) >= bound))
  return (hits + 1) / (TRIALS + 1)


def holm(p_values) -> list[float]:
  """Returns p-values corrected for their number (Holm 1979), in the order given."""
  count, corrected, largest = len(p_values), [1.0] * len(p_values), 0.0
  for rank, index in enumerate(np.argsort(p_values, kind="stable")):
    largest = max(largest, min(1.0, (count - rank) * p_values[index]))
    corrected[index] = float(largest)
  return corrected


def interval(values_R, weights_R=None) -> tuple[float, float]:
  """Returns the 95 % interval of one score: Wilson's of hits, else a bootstrap's."""
  values_R = np.asarray(values_R)
  if weights_R is None and np.isin(values_R, (0, 1)).all():
    return intervals.wilson(int(values_R.sum()), values_R.size)
  return bootstrap(values_R, weights_R)


def is_claimed(result: Paired, p: float) -> bool:
  """Returns True if both the test and the interval, at 5 %, show a difference."""
  low, high = result.interval
  return p < LEVEL and (low > 0 or high < 0)


def verdict(names, metric: str, result: Paired, p: float, *, less=False) -> str:
  """Returns one sentence: which of two is better and by how much, or why none is.

  `names` are those of the first and the second; `p` is corrected for the number of
  comparisons; with `less`, a smaller score is better.
  """
  first, second = names
  unit, sign = metric.replace("_", " "), 1
  if not result.differing:
    return (
      f"no difference between {first} and {second}: the same {unit} on each of "
      f"{result.items:,} items, p=1"
    )
  if (result.difference < 0) != less:
    first, second, sign = second, first, -1
  low, high = sorted(sign * bound for bound in result.interval)
  shown = (
    f"{sign * result.difference:+.3g} {unit} (95 %: {low:+.3g} to {high:+.3g}), "
    f"p={p:.2g}"
  )
  if is_claimed(result, p):
    return f"{second} is better than {first}: {shown}"
  limit = (
    f"differences under about {result.detectable:.2g} can't be seen with this many"
  )
  if result.differing < FEWEST:
    limit = f"they differ on {result.differing}, and fewer than {FEWEST} carry no claim"
  return (
    f"no difference between {first} and {second} can be claimed from {result.items:,} "
    f"items: {shown}; {limit}"
  )


def _weights(values_R, weights_R):
  return np.ones(values_R.size) if weights_R is None else np.asarray(weights_R, float)


def _sizes(total: int, count: int):
  """Yields numbers of repetitions that add up to `total`, of DRAWN numbers at most."""
  size = max(1, DRAWN // max(1, count))
  for start in range(0, total, size):
    yield min(size, total - start)
