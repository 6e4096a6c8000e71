"""Scores of classification equal scikit-learn's; intervals hold what they promise."""

import numpy as np
import pytest
from sklearn import metrics

from lm.tasks import overlap, scores


@pytest.mark.parametrize("seed", range(200))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed):
  rng = np.random.default_rng(seed)
  classes = int(rng.integers(2, 6))
  total = int(rng.integers(1, 40))
  actual_R, predicted_R = rng.integers(0, classes, (2, total))
  values = scores.classification(actual_R, predicted_R, classes=classes)
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
  assert scores.wilson(hits, total) == pytest.approx(expected, abs=1e-4)


def test_about_95_of_100_intervals_of_macro_f1_hold_its_value():
  rng = np.random.default_rng(0)
  shares_CC = np.array([[0.4, 0.1, 0.05], [0.05, 0.15, 0.05], [0.02, 0.03, 0.15]])
  true_f1 = scores.macro_f1(shares_CC)
  cells = rng.choice(9, size=(200, 500), p=shares_CC.ravel())
  hits = 0
  for cell_R in cells:
    values = scores.classification(cell_R // 3, cell_R % 3, classes=3)
    low, high = values["macro_f1_95"]
    hits += low <= true_f1 <= high
  assert 180 <= hits <= 199


def test_overlap_counts_texts_with_a_common_8_gram():
  train = [
    "One two three, four five six seven eight nine ten.",
    "short text",
    "我很喜欢这本书的内容",
  ]
  heldout = [
    "two THREE four five six seven eight nine",  # 8 words of the first
    "one two three four five six seven and eight",  # 7 in a row
    "short text",
    "short texts",
    "他说我很喜欢这本书的",  # 8 characters of the last
  ]
  assert [overlap.share(train, [text]) for text in heldout] == [1, 0, 1, 0, 1]
  assert overlap.share(train, heldout) == 0.6
