"""Calibration: whether what is answered with 80 % is right in 80 of 100 cases.

The expected calibration error (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599)
over equal bins of the top class's probability, beside what a calibrated model would
show in as many items, for an error of few items is never 0. A temperature that is
fitted on half of the items says what scaling the logits would gain on the rest.
"""

from typing import NamedTuple

import numpy as np

from lm.study.checks import Row
from lm.study.compare import bootstrap

KIND = "classes"
BINS = 15
SAMPLES = 1_000  # of the interval, and of a calibrated model
LEAST, MOST = 1e-2, 1e2  # temperatures
TINY = 1e-12  # a probability of 0 would have infinite nats


class Reliability(NamedTuple):
  """The items of each bin (low, high] of confidence; B here counts bins."""

  count: np.ndarray
  confidence: np.ndarray  # mean; nan for a bin without items
  accuracy: np.ndarray

  @property
  def error(self) -> float:
    """The expected calibration error."""
    gap = np.abs(self.accuracy - self.confidence)
    return float(np.nansum(self.count * gap) / self.count.sum())


def reliability(confidence_R, right_R, bins: int = BINS) -> Reliability:
  """Returns the bins of top-class probabilities and of which answers are right."""
  confidence_R = np.asarray(confidence_R, np.float64)
  bin_R = bins_of(confidence_R, bins)
  count, confidence, accuracy = (
    np.bincount(bin_R, weights, minlength=bins).astype(float)
    for weights in (None, confidence_R, np.asarray(right_R, np.float64))
  )
  some = np.where(count > 0, count, np.nan)
  return Reliability(count.astype(int), confidence / some, accuracy / some)


def bins_of(confidence_R, bins: int = BINS) -> np.ndarray:
  """Returns the bin (low, high] of each probability; 0 is in the first."""
  edges = np.linspace(0, 1, bins + 1)
  return np.clip(np.searchsorted(edges, confidence_R, side="left") - 1, 0, bins - 1)


def nats(chance_RC, actual_R) -> np.ndarray:
  """Returns nats_R, minus the logarithm of the probability of each item's class."""
  chance_R = np.take_along_axis(np.asarray(chance_RC), actual_R[:, None], axis=1)[:, 0]
  return -np.log(np.maximum(chance_R, TINY))


def brier(chance_RC, actual_R) -> np.ndarray:
  """Returns the squared errors of the probabilities, summed over classes (Brier)."""
  is_class_RC = np.arange(chance_RC.shape[1])[None] == actual_R[:, None]
  return np.sum((chance_RC - is_class_RC) ** 2, axis=1)


def temperature(chance_RC, actual_R) -> float:
  """Returns the divisor of logits with the least nats, within LEAST and MOST.

  The nats are convex in its inverse: the root of their slope is halved into.
  """
  logits_RC = np.log(np.maximum(chance_RC, TINY))
  own_R = np.take_along_axis(logits_RC, actual_R[:, None], axis=1)[:, 0]
  low, high = np.log(1 / MOST), np.log(1 / LEAST)
  for _ in range(40):
    middle = (low + high) / 2
    scaled_RC = cooled(chance_RC, np.exp(-middle))
    slope = np.mean(np.sum(scaled_RC * logits_RC, axis=1) - own_R)
    low, high = (low, middle) if slope > 0 else (middle, high)
  return float(np.exp(-(low + high) / 2))


def cooled(chance_RC, temperature: float) -> np.ndarray:
  """Returns the probabilities of logits divided by a temperature."""
  logits_RC = np.log(np.maximum(chance_RC, TINY)) / temperature
  chance_RC = np.exp(logits_RC - logits_RC.max(axis=1, keepdims=True))
  return chance_RC / chance_RC.sum(axis=1, keepdims=True)


def error(chance_RC, actual_R) -> float:
  """Returns the expected calibration error of probabilities."""
  right_R = np.argmax(chance_RC, axis=1) == actual_R
  return reliability(np.max(chance_RC, axis=1), right_R).error


def check(subject, argument: str = "") -> list[Row]:
  """Returns calibration error, nats, Brier score, and those after a temperature."""
  del argument
  return rows(subject.chance_RC, subject.actual_R)


def rows(chance_RC, actual_R) -> list[Row]:
  """Returns the rows of `check` from probabilities and classes."""
  count, rng = len(actual_R), np.random.default_rng(0)
  confidence_R = chance_RC.max(axis=1)
  right_R = np.argmax(chance_RC, axis=1) == actual_R
  resampled, calibrated = [], []
  for _ in range(SAMPLES):
    index_R = rng.integers(count, size=count)
    resampled.append(reliability(confidence_R[index_R], right_R[index_R]).error)
    lucky_R = rng.random(count) < confidence_R
    calibrated.append(reliability(confidence_R, lucky_R).error)
  nats_R, brier_R = nats(chance_RC, actual_R), brier(chance_RC, actual_R)
  interval = tuple(map(float, np.quantile(resampled, (0.025, 0.975))))
  name = f"ECE of {BINS} bins"

  def row(case, metric, value, interval=None, count=count):
    return Row("calibration", case, metric, float(value), interval, count)

  table = [
    row("as it is", name, error(chance_RC, actual_R), interval),
    row("were it calibrated", name, np.mean(calibrated)),
    row("as it is", "nats", nats_R.mean(), bootstrap(nats_R)),
    row("as it is", "Brier", brier_R.mean(), bootstrap(brier_R)),
  ]
  if count < 2:
    return table
  fitted = temperature(chance_RC[::2], actual_R[::2])
  rest_RC, rest_R = chance_RC[1::2], actual_R[1::2]
  scaled_RC, size = cooled(rest_RC, fitted), len(rest_R)
  return [
    *table,
    row("fitted on half", "temperature", fitted, count=count - size),
    row("other half", name, error(rest_RC, rest_R), count=size),
    row("other half scaled", name, error(scaled_RC, rest_R), count=size),
    row("other half scaled", "nats", nats(scaled_RC, rest_R).mean(), count=size),
  ]
