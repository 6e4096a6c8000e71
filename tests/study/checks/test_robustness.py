"""Robustness: changes leave the words that carry the class, and rows count them."""

import types

import numpy as np
import pytest

from lm.study.checks import robustness


@pytest.mark.parametrize("text", [
  "A wonderful film, and the acting was excellent.", "aaaa bb", "很好的电影",
  "", "1234 good",
  "Ünïcödé wörds überall, naïveté", "one two three four five " * 9,
])  # fmt: skip
def test_typing_errors_exchange_inner_letters(text):
  changed = robustness.typos(text)
  assert changed == robustness.typos(text)  # the same each time
  assert sorted(changed) == sorted(text)
  before, after = text.split(), changed.split()
  different = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
  words = [m[0] for m in robustness._WORD.finditer(text) if robustness._places(m[0])]
  assert len(different) == -(-len(words) // robustness.EVERY)
  for a, b in different:
    places = [i for i in range(len(a)) if a[i] != b[i]]
    assert len(places) == 2 and places[1] == places[0] + 1
    assert (a[0], a[places[0]], a[places[1]]) == (b[0], b[places[1]], b[places[0]])


@pytest.mark.parametrize(
  "change, text, expected",
  [
    ("upper case", "Good film.", "GOOD FILM."),
    ("lower case", "Good film.", "good film."),
    ("no punctuation at the end", "Good, film?! ", "Good, film"),
    ("no punctuation at the end", "好。", "好"),
    ("no punctuation at the end", "...", "..."),
    ("longer", "Good.", "The text begins here. Good. The text ends here."),
    ("longer", "好。", "下面是原文。好。 以上是原文。"),
  ],
)
def test_changes(change, text, expected):
  assert robustness.CHANGES[change](text) == expected


def test_a_change_is_compared_with_the_same_records():
  """By hand: of six records five are changed, two answers flip, one wrongly."""
  before = np.eye(2)[[0, 0, 1, 1, 1, 0]]
  subject = types.SimpleNamespace(
    actual_R=np.array([0, 0, 1, 1, 0, 0]), chance_RC=before, labels=("no", "yes")
  )
  index_R, after_R = np.array([0, 1, 2, 3, 4]), np.array([0, 1, 1, 1, 0])
  lost, flips, worst = robustness.compared(subject, "x", index_R, after_R)
  assert (lost.value, lost.count) == (0.0, 5)  # one lost, one gained
  assert flips.value == 2 / 5
  assert (worst.metric, worst.value, worst.count) == (
    "accuracy of no (worst class)",
    2 / 3,
    3,
  )
