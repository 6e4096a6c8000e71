"""Correlations equal SciPy's; their intervals hold what they promise."""

import warnings

import numpy as np
import pytest
import scipy.stats

from lm.scores import numbers


@pytest.mark.parametrize("seed", range(200))
def test_correlations_are_those_of_scipy(seed):
  rng = np.random.default_rng(seed)
  total = int(rng.integers(3, 60))
  x_R = rng.integers(0, int(rng.integers(2, 9)), total)  # with ties, perhaps constant
  y_R = np.where(rng.random(total) < 0.5, x_R, rng.standard_normal(total).round(1))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # SciPy's, of constant numbers
    expected = [scipy.stats.pearsonr(x_R, y_R)[0], scipy.stats.spearmanr(x_R, y_R)[0]]
  actual = [numbers.pearson(x_R, y_R), numbers.spearman(x_R, y_R)]
  np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_without_spread_there_is_no_correlation():
  values = numbers.regression(np.ones(4), np.arange(4.0))
  assert np.isnan([values["pearson"], values["spearman"]]).all()
  assert np.isnan(values["spearman_95"]).all()
  assert values["mean_absolute_error"] == 1.0


def test_ranks_in_a_sample_are_those_of_its_records():
  rng = np.random.default_rng(0)
  x_R = rng.integers(0, 5, 30)
  times_YR = rng.multinomial(30, np.full(30, 1 / 30), size=7)
  ranks_YR = numbers.ranks_in(x_R, times_YR)
  for times_R, ranks_R in zip(times_YR, ranks_YR, strict=True):
    expected = scipy.stats.rankdata(np.repeat(x_R, times_R)) - 1
    np.testing.assert_allclose(np.repeat(ranks_R, times_R), expected)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_about_95_of_100_intervals_hold_the_correlation(name):
  rng, hits, rho = np.random.default_rng(0), 0, 0.6
  true = rho if name == "pearson" else 6 / np.pi * np.arcsin(rho / 2)  # of a normal
  for _ in range(60):
    x_R, noise_R = rng.standard_normal((2, 200))
    values = numbers.correlations(x_R, rho * x_R + np.sqrt(1 - rho**2) * noise_R)
    low, high = values[f"{name}_95"]
    hits += low <= true <= high
  assert 52 <= hits <= 60
