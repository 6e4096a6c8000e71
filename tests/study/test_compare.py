"""Paired comparison: SciPy's numbers, honest error rates, verdicts in words."""

import numpy as np
import pytest
from scipy import stats

from lm.study import compare


def scores(seed, count=300, gap=0.0, kind="normal"):
  """Returns two scores of each item, correlated; the second is better by `gap`."""
  rng = np.random.default_rng(seed)
  if kind == "hits":
    hard_R = rng.random(count)
    return tuple((hard_R + rng.normal(0, 0.3, count) < 0.7).astype(float) for _ in "ab")
  item_R, first_R, second_R = rng.normal(size=(3, count))
  return item_R + first_R, item_R + second_R + gap


@pytest.mark.parametrize("seed", range(20))
def test_few_items_have_the_exact_p_of_scipy(seed):
  first_R, second_R = scores(seed, count=2 + seed % 9)
  difference_R = second_R - first_R
  expected = stats.permutation_test(
    (difference_R,), np.sum, permutation_type="samples", n_resamples=np.inf
  )
  assert compare.randomisation(difference_R) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seed", range(20))
def test_few_hits_and_misses_have_the_p_of_mcnemars_exact_test(seed):
  rng = np.random.default_rng(seed)
  gains, losses = (int(n) for n in rng.integers(0, 7, 2))
  difference_R = np.repeat([1.0, -1.0, 0.0], [gains, losses, 50])
  expected = 1.0
  if gains + losses:
    expected = stats.binomtest(gains, gains + losses).pvalue
  assert compare.randomisation(difference_R) == pytest.approx(expected)


def test_many_items_have_the_p_of_a_t_test_and_of_the_exact_one():
  for seed in range(10):
    first_R, second_R = scores(seed, gap=0.15)
    p = compare.paired(first_R, second_R).p
    assert p == pytest.approx(stats.ttest_rel(first_R, second_R).pvalue, abs=0.02)
  difference_R = np.repeat([1.0, -1.0], [40, 25])
  expected = stats.binomtest(40, 65).pvalue
  assert compare.randomisation(difference_R) == pytest.approx(expected, abs=0.01)


def test_the_interval_is_that_of_scipys_bootstrap():
  for seed in range(5):
    first_R, second_R = scores(seed, gap=0.1)
    expected = stats.bootstrap(
      (second_R - first_R,), np.mean, method="percentile", rng=seed
    ).confidence_interval
    result = compare.paired(first_R, second_R)
    assert result.interval == pytest.approx(tuple(expected), abs=0.02)


def test_weights_make_a_ratio_of_sums():
  rng = np.random.default_rng(0)
  bytes_R = rng.integers(50, 900, 200).astype(float)
  first_R, second_R = (bytes_R * rng.normal(2.0, 0.3, 200) for _ in "ab")
  result = compare.paired(first_R, second_R, bytes_R)
  expected = second_R.sum() / bytes_R.sum() - first_R.sum() / bytes_R.sum()
  assert result.difference == pytest.approx(expected, rel=1e-12)
  ratio = lambda d_R, w_R, axis: d_R.sum(axis) / w_R.sum(axis)
  peer = stats.bootstrap(
    (second_R - first_R, bytes_R), ratio, paired=True, method="percentile", rng=0
  )
  assert result.interval == pytest.approx(tuple(peer.confidence_interval), abs=0.005)
  error = result.detectable / compare.POWER
  assert error == pytest.approx(peer.standard_error, rel=0.08)


@pytest.mark.parametrize("kind", ["normal", "hits"])
def test_equal_systems_are_rejected_as_often_as_the_level_says(kind, monkeypatch):
  monkeypatch.setattr(compare, "TRIALS", 1_000)
  rejected = {"p": 0, "claim": 0}
  for seed in range(400):
    first_R, second_R = scores(seed, kind=kind)
    result = compare.paired(first_R, second_R, seed=seed)
    rejected["p"] += result.p < compare.LEVEL
    rejected["claim"] += compare.is_claimed(result, result.p)
  assert 0.03 <= rejected["p"] / 400 <= 0.08
  assert rejected["claim"] <= rejected["p"]


def test_a_gap_of_four_standard_errors_is_seen(monkeypatch):
  monkeypatch.setattr(compare, "TRIALS", 1_000)
  gap = 4 * (2 / 300) ** 0.5
  results = [compare.paired(*scores(seed, gap=gap), seed=seed) for seed in range(200)]
  assert sum(compare.is_claimed(result, result.p) for result in results) > 180
  # The detectable difference is seen in 4 of 5.
  detectable = np.mean([result.detectable for result in results])
  results = [compare.paired(*scores(s, gap=detectable), seed=s) for s in range(200)]
  assert 0.7 < np.mean([result.p < 0.05 for result in results]) < 0.9


def test_exchanging_the_two_changes_signs_alone():
  first_R, second_R = scores(3, gap=0.2)
  one, other = compare.paired(first_R, second_R), compare.paired(second_R, first_R)
  assert one.p == other.p and one.difference == -other.difference
  assert one.interval == pytest.approx([-x for x in other.interval[::-1]], abs=1e-12)
  assert compare.verdict("ab", "f1", one, one.p) == compare.verdict(
    "ba", "f1", other, other.p
  )


def test_equal_scores_are_no_difference():
  first_R = scores(0)[0]
  result = compare.paired(first_R, first_R)
  assert (result.p, result.difference, result.interval) == (1.0, 0.0, (0.0, 0.0))
  assert compare.verdict(("runs/a", "runs/b"), "bits_per_byte", result, 1.0) == (
    "no difference between runs/a and runs/b: the same bits per byte on each of 300 "
    "items, p=1"
  )


def test_five_items_carry_no_claim():
  for count in range(1, 6):  # 2 of 2 ** 5 exchanges are as large: p = 0.0625
    result = compare.paired(np.zeros(count), np.ones(count))
    assert result.p == 2 / 2**count
    assert not compare.is_claimed(result, result.p)
  line = compare.verdict("AB", "f1", result, result.p)
  assert line.endswith("; they differ on 5, and fewer than 6 carry no claim")
  assert compare.is_claimed(compare.paired(np.zeros(6), np.ones(6)), 2 / 2**6)


def test_verdicts():
  result = compare.Paired(0.0312, (0.0121, 0.05), 0.002, 0.045, 212, 40)
  names = ("A", "B")
  assert compare.verdict(names, "accuracy", result, 0.002) == (
    "B is better than A: +0.0312 accuracy (95 %: +0.0121 to +0.05), p=0.002"
  )
  assert compare.verdict(names, "bits_per_byte", result, 0.002, less=True) == (
    "A is better than B: -0.0312 bits per byte (95 %: -0.05 to -0.0121), p=0.002"
  )
  assert compare.verdict(names, "accuracy", result, 0.06) == (
    "no difference between A and B can be claimed from 212 items: +0.0312 accuracy "
    "(95 %: +0.0121 to +0.05), p=0.06; differences under about 0.045 can't be seen "
    "with this many"
  )


def test_holms_correction():
  # By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then no smaller than the one before.
  assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
    [0.03, 0.06, 0.06, 0.02]
  )
  assert compare.holm([0.9, 0.8]) == [1.0, 1.0] and compare.holm([]) == []


def test_intervals_of_single_scores():
  hits_R = np.repeat([1.0, 0.0], [81, 182])
  assert compare.interval(hits_R) == pytest.approx((0.25529, 0.36624), abs=1e-4)
  values_R = scores(0)[0]
  expected = stats.t.interval(
    0.95, values_R.size - 1, values_R.mean(), stats.sem(values_R)
  )
  assert compare.interval(values_R) == pytest.approx(expected, abs=0.03)
