"""What is reported of an evaluation: sums over all of it, divided once at the end.

Sums are float64 on the host. A float32 sum of a million losses is off by per cents, and
a mean of means is wrong as soon as two batches differ in weight.
"""

import math

import numpy as np

from lm.errors import Mistake


def mean(value, weight, name="the mean") -> float:
  """value / weight in float64; Mistake when the weight is 0."""
  if not weight:
    raise Mistake(
      f"{name} is over nothing: the split is empty or all its weights are 0"
    )
  return float(np.float64(value) / np.float64(weight))


def perplexity(nats_per_token: float) -> float:
  """e to the nats, or inf where a float cannot hold it."""
  return math.exp(nats_per_token) if nats_per_token < 700 else math.inf


def entropy(counts) -> float:
  """Nats per token of guessing by frequency alone: what context has to beat."""
  counts = np.asarray(counts, np.float64)
  shares = counts[counts > 0] / counts.sum()
  return float(-np.sum(shares * np.log(shares)))


def bits_per_byte(nats, num_bytes) -> float:
  """Bits needed per byte of text: comparable between tokenizers."""
  return mean(nats, num_bytes, "bits per byte") / math.log(2)


# What is said of an evaluation, where it is known.
UNITS = (
  "bits_per_byte",
  "detector_nats_per_token",
  "nats_per_token",
  "nats_per_pair",
  "error_per_pair",
)


def report(sums: dict) -> dict:
  """What is reported of the sums of an objective; first the score: less is better.

  "pair_nats" and "pair_error" are those of word vectors, which predict no text.
  """
  for name, unit in (("pair_nats", "nats_per_pair"), ("pair_error", "error_per_pair")):
    if name in sums:
      return {unit: mean(sums[name], sums["weight"], unit.replace("_", " "))}
  return (detection(sums) if "detected" in sums else {}) | language(sums)


def detection(sums: dict) -> dict:
  """What is reported of a model that finds replaced tokens (ELECTRA's).

  Its nats depend on how good the replacements are; the rest that is told, by
  `language`, is of the generator that makes them.
  """
  nats = mean(sums["detector_nats"], sums["detected"], "detector nats per token")
  report = {"detector_nats_per_token": nats}
  for name, key in (("replaced", "replaced_found"), ("original", "original_kept")):
    if sums[name]:
      report[f"{name}_accuracy"] = mean(sums[key], sums[name])
  return report


def language(sums: dict) -> dict:
  """What is reported of a language model, from the sums of its objective.

  Needs "loss" (or "nll", the part of it that is the cross-entropy) and "weight".
  "correct" adds the accuracy, "rows_correct" and "rows" that of next sentences,
  "byte_nats" and "bytes" (the nats of targets that stand for bytes, and those bytes)
  the bits per byte.
  """
  nats = mean(sums.get("nll", sums["loss"]), sums["weight"], "nats per token")
  report = {"nats_per_token": nats, "perplexity": perplexity(nats)}
  if "correct" in sums:
    report["accuracy"] = mean(sums["correct"], sums["weight"], "accuracy")
  if "rows" in sums:
    report["next_sentence_accuracy"] = mean(sums["rows_correct"], sums["rows"])
  if sums.get("bytes"):
    report["bits_per_byte"] = bits_per_byte(sums["byte_nats"], sums["bytes"])
  return report
