"""Fairness: hand-made tables of groups, and terms exchanged in texts."""

import math

import numpy as np
import pytest

from lm.study.checks import _terms, fairness

# Ten records of two groups.
GROUP_R = np.array(["a"] * 4 + ["b"] * 6)
ACTUAL_R = np.array([1, 1, 0, 0, 1, 1, 1, 0, 0, 0])
PREDICTED_R = np.array([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])


def test_scores_and_gaps_of_groups():
  rows = fairness.by_group(GROUP_R, PREDICTED_R, ACTUAL_R, name="g")
  assert [(r.case, r.value, r.count) for r in rows[:2]] == [
    ("g a", 3 / 4, 4),
    ("g b", 4 / 6, 6),
  ]
  assert rows[2].value == pytest.approx(3 / 4 - 4 / 6)
  parity, odds = fairness.gaps(GROUP_R, PREDICTED_R, ACTUAL_R, name="g")
  assert parity.value == pytest.approx(3 / 4 - 1 / 6)
  # True positives: 2 of 2 and 1 of 3; false positives: 1 of 2 and 0 of 3.
  assert odds.value == pytest.approx(max(2 / 2 - 1 / 3, 1 / 2))


def test_a_group_without_a_class_has_nan_and_no_zero():
  actual_R = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
  parity, odds = fairness.gaps(GROUP_R, PREDICTED_R, actual_R, name="g")
  assert math.isnan(odds.value) and parity.value == pytest.approx(3 / 4 - 1 / 6)


def test_groups_of_length_are_quarters():
  length_R = np.array([1, 2, 3, 4, 5, 6, 7, 100] * 3)
  right_R = np.zeros(24, int)
  rows = fairness.by_length(length_R, right_R, right_R)
  assert [row.case for row in rows] == [
    "1 to 2 tokens", "3 to 4 tokens", "5 to 6 tokens", "7 to 100 tokens", "length",
  ]  # fmt: skip
  assert [row.count for row in rows[:4]] == [6] * 4
  assert fairness.by_length(length_R * 0 + 7, right_R, right_R)[0].case == "7 tokens"


@pytest.mark.parametrize(
  "axis, text, expected",
  [
    ("gender", "He told his wife.", "She told her husband."),
    ("gender", "I saw her. HER book, Her", "I saw him. HIS book, Him"),
    ("gender", "The shepherd and heroic Herman", "The shepherd and heroic Herman"),
    ("gender", "Mr. Lee and Mrs. Lee", "Ms. Lee and Mr. Lee"),
    ("gender", "他和她的爸爸，其他吉他", "她和他的妈妈，其他吉他"),
    ("religion", "A Christian church", "A Muslim mosque"),
    ("origin", "Germans are European", "Turks are African"),
  ],
)
def test_terms_are_exchanged_as_words(axis, text, expected):
  assert _terms.Axis(axis).exchanged(text) == expected


@pytest.mark.parametrize("axis", _terms.AXES)
def test_every_pair_of_terms_goes_there_and_back(axis):
  terms = _terms.Axis(axis)
  for pair in _terms.AXES[axis].replace("\n", " ").split(","):
    first, second = pair.split()
    assert terms.exchanged(f"a {first}.") == f"a {second}."
    if second != "ms" or first != "mr":
      assert terms.exchanged(f"a {second}.") == f"a {first}."
    assert terms.sides(first) == (True, False)
    assert terms.sides(second) == (False, True)
    assert terms.sides(f"{first} {second}") == (True, True)
