"""Scores of classification equal scikit-learn's; intervals hold what they promise."""

import numpy as np
import pytest
from sklearn import metrics

from lm.scores import classes, intervals


@pytest.mark.parametrize("seed", range(200))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed):
  rng = np.random.default_rng(seed)
  count = int(rng.integers(2, 6))
  total = int(rng.integers(1, 40))
  actual_R, predicted_R = rng.integers(0, count, (2, total))
  values = classes.classification(actual_R, predicted_R, classes=count)
  f1 = metrics.f1_score(actual_R, predicted_R, average="macro", zero_division=0)
  assert values["accuracy"] == pytest.approx(
    metrics.accuracy_score(actual_R, predicted_R), abs=1e-12
  )
  assert values["macro_f1"] == pytest.approx(f1, abs=1e-12)
  low, high = values["macro_f1_95"]
  assert 0 <= low <= high <= 1


@pytest.mark.parametrize(
  "hits, total, expected",
  # By hand from Wilson's formula: Brown, Cai and DasGupta 2001, section 3.1.1.
  [(0, 10, (0.0, 0.27753)), (5, 10, (0.23659, 0.76341)), (81, 263, (0.25529, 0.36624))],
)
def test_wilsons_interval(hits, total, expected):
  assert intervals.wilson(hits, total) == pytest.approx(expected, abs=1e-4)


def test_about_95_of_100_intervals_of_macro_f1_hold_its_value():
  rng = np.random.default_rng(0)
  shares_CC = np.array([[0.4, 0.1, 0.05], [0.05, 0.15, 0.05], [0.02, 0.03, 0.15]])
  true_f1 = classes.macro_f1(shares_CC)
  cells = rng.choice(9, size=(200, 500), p=shares_CC.ravel())
  hits = 0
  for cell_R in cells:
    values = classes.classification(cell_R // 3, cell_R % 3, classes=3)
    low, high = values["macro_f1_95"]
    hits += low <= true_f1 <= high
  assert 180 <= hits <= 199


@pytest.mark.parametrize("seed", range(3))
def test_a_bootstraps_interval_of_a_mean_is_about_that_of_the_normal(seed):
  values_R = np.random.default_rng(seed).gamma(2.0, size=900)
  low, high = intervals.bootstrap(values_R)
  half = 1.96 * values_R.std() / 30
  assert low == pytest.approx(values_R.mean() - half, abs=0.3 * half)
  assert high == pytest.approx(values_R.mean() + half, abs=0.3 * half)


def test_a_bootstrap_takes_the_sums_that_its_statistic_is_made_of():
  parts_RO = np.random.default_rng(0).integers(1, 9, (50, 2))
  ratio = intervals.bootstrap(parts_RO, lambda sums: sums[..., 0] / sums[..., 1])
  low, high = ratio
  assert low < parts_RO[:, 0].sum() / parts_RO[:, 1].sum() < high
  assert intervals.bootstrap(np.full(7, 0.25)) == (0.25, 0.25)
