"""Metrics of an evaluation: named pairs of sums, divided once at the end.

Sums are float64 on the host. A float32 sum of a million losses is off by per cents, and
a mean of means is wrong as soon as two batches differ in weight.
"""

import math

import numpy as np

from lm.errors import Mistake


def perplexity(nats_per_token: float) -> float:
  """Returns e to the nats, or inf where a float cannot hold it."""
  return math.exp(nats_per_token) if nats_per_token < 700 else math.inf


DERIVED = {"perplexity": ("nats_per_token", perplexity)}  # name -> (of which, function)


def mean(total, weight, name="the mean") -> float:
  """Returns total / weight in float64; raises Mistake when the weight is 0."""
  if not weight:
    raise Mistake(
      f"{name} is over nothing: the split is empty or all its weights are 0"
    )
  return float(np.float64(total) / np.float64(weight))


def add(sums: dict, more: dict) -> dict:
  """Returns the float64 sums of two {name: (sum, weight)}, name by name."""
  zero = (np.float64(0), np.float64(0))
  names = dict.fromkeys([*sums, *more])
  pairs = {name: (sums.get(name, zero), more.get(name, zero)) for name in names}
  return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


def means(sums: dict) -> dict[str, float]:
  """Returns {name: sum / weight}, and what is derived from them.

  Pairs without weight are left out (no token was replaced, say), but for "loss", which
  raises Mistake: nothing was evaluated.
  """
  mean(*sums["loss"], "the loss")
  values = {name: mean(*pair, name) for name, pair in sums.items() if pair[1]}
  for name, (source, function) in DERIVED.items():
    if source in values:
      values[name] = function(values[source])
  return values


def entropy(counts) -> float:
  """Returns the nats per token of guessing by frequency, which context has to beat."""
  counts = np.asarray(counts, np.float64)
  shares = counts[counts > 0] / counts.sum()
  return float(-np.sum(shares * np.log(shares)))
