"""Calibration: the formula of ECE, scikit-learn's scores, and a known temperature."""

import itertools

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from lm.study.checks import calibration


def reference(confidences, rights, bins):
  """Returns ECE as its definition has it: item by item, edges (low, high]."""
  total, edges = 0.0, np.linspace(0, 1, bins + 1)
  for low, high in itertools.pairwise(edges):
    inside = [i for i, c in enumerate(confidences) if low < c <= high]
    if inside:
      accuracy = sum(rights[i] for i in inside) / len(inside)
      confidence = sum(confidences[i] for i in inside) / len(inside)
      total += len(inside) / len(confidences) * abs(accuracy - confidence)
  return total


def drawn(seed, classes=3, count=400, scale=1.0):
  """Returns (chance_RC, classes drawn from them after scaling the logits)."""
  rng = np.random.default_rng(seed)
  logits_RC = rng.normal(0, 2, (count, classes))
  chance_RC = calibration.cooled(np.exp(logits_RC), 1.0)
  scaled_RC = calibration.cooled(chance_RC, 1 / scale)
  uniform_R1 = rng.random((count, 1))
  actual_R = (uniform_R1 > np.cumsum(scaled_RC, axis=1)[:, :-1]).sum(axis=1)
  return chance_RC, actual_R


@pytest.mark.parametrize("seed", range(50))
def test_ece_is_its_formula(seed):
  rng = np.random.default_rng(seed)
  count, bins = int(rng.integers(1, 200)), int(rng.integers(1, 20))
  confidence_R, right_R = rng.random(count), rng.random(count) < 0.7
  edges_R = np.linspace(0, 1, bins + 1)[1:]
  confidence_R[: count // 2] = rng.choice(edges_R, count // 2)  # on edges, 1.0 too
  result = calibration.reliability(confidence_R, right_R, bins)
  assert result.error == pytest.approx(
    reference(confidence_R, right_R, bins), abs=1e-12
  )
  assert result.count.sum() == count


@pytest.mark.parametrize(
  "confidences, rights, expected",
  [
    ([1.0], [True], 0.0),
    ([1.0], [False], 1.0),
    ([0.0], [False], 0.0),  # no (low, high] has it; the first bin does
    ([0.2, 0.6], [False, True], 0.3),
    ([1 / 15, 1 / 15 + 1e-9], [True, True], 1 - 1 / 15),
  ],
)
def test_ece_at_the_edges(confidences, rights, expected):
  result = calibration.reliability(confidences, rights)
  assert result.error == pytest.approx(expected, abs=1e-8)


def test_bins_are_those_of_scikit_learn():
  chance_RC, actual_R = drawn(0, classes=2)
  chance_R = chance_RC[:, 1]
  result = calibration.reliability(chance_R, actual_R == 1)
  shares, means = calibration_curve(actual_R, chance_R, n_bins=15)
  some = result.count > 0
  np.testing.assert_allclose(result.accuracy[some], shares)
  np.testing.assert_allclose(result.confidence[some], means)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_nats_and_brier_are_those_of_scikit_learn(classes):
  chance_RC, actual_R = drawn(classes, classes)
  labels = list(range(classes))
  assert calibration.nats(chance_RC, actual_R).mean() == pytest.approx(
    metrics.log_loss(actual_R, chance_RC, labels=labels)
  )
  assert calibration.brier(chance_RC, actual_R).mean() == pytest.approx(
    metrics.brier_score_loss(actual_R, chance_RC, labels=labels, scale_by_half=False)
  )


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(scale):
  chance_RC, actual_R = drawn(1, count=100_000, scale=scale)
  fitted = calibration.temperature(chance_RC, actual_R)
  assert fitted == pytest.approx(1 / scale, rel=0.02)
  cooled_RC = calibration.cooled(chance_RC, fitted)
  assert calibration.error(cooled_RC, actual_R) < 0.01
  np.testing.assert_array_equal(cooled_RC.argmax(1), chance_RC.argmax(1))
  least = calibration.nats(cooled_RC, actual_R).mean()
  for other in (0.9 * fitted, 1.1 * fitted):
    cooled_RC = calibration.cooled(chance_RC, other)
    assert calibration.nats(cooled_RC, actual_R).mean() > least


def test_few_items_of_a_calibrated_model_are_no_claim():
  chance_RC, actual_R = drawn(1, count=200)
  rows = {(row.case, row.metric): row for row in calibration.rows(chance_RC, actual_R)}
  own = rows["as it is", "ECE of 15 bins"]
  expected = rows["were it calibrated", "ECE of 15 bins"]
  assert 0.03 < expected.value < 0.1  # though nothing is wrong
  assert own.value == pytest.approx(expected.value, abs=0.04)
  assert own.interval[0] < own.value < own.interval[1]
  right_RC, wrong_R = np.array([[1.0, 0.0]] * 9), np.array([0] * 9)
  rows = calibration.rows(right_RC, wrong_R)
  assert all(np.isfinite(row.value) for row in rows)
  assert calibration.rows(right_RC[:1], wrong_R[:1])[0].value == 0
