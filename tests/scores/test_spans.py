"""Exact match and F1 of answers equal those of SQuAD's script.

golden/squad.txt has what `squad_evaluate` of transformers 4.57.1, the last release with
that function, says of the cases of each seed: a line has exact, f1, HasAns_exact,
HasAns_f1, NoAns_exact, NoAns_f1, best_exact, its threshold, best_f1 and its threshold.
"""

import pathlib
import random

import pytest

from lm.scores import spans

PIECES = ["the", "The", "a", "an", "Rome", "rome,", "U.S.", "co-op", "“Rome”", "über"]
PIECES += ["1,000", "x", "y", "y", "  ", "!", "", "theatre", "A."]
NAMES = ("exact", "f1", "has_answer_exact", "has_answer_f1", "no_answer_exact")
NAMES += ("no_answer_f1", "best_exact", "best_exact_threshold", "best_f1")
NAMES += ("best_f1_threshold",)


def cases(seed: int) -> tuple[list, list, list]:
  """Returns (answers, lists of references, numbers for no answer) of some questions."""
  draw = random.Random(seed)
  text = lambda most: " ".join(draw.choices(PIECES, k=draw.randrange(most)))
  answers, golds, no_answer = [], [], []
  for _ in range(draw.randrange(1, 30)):
    golds.append([text(5) for _ in range(draw.randrange(4))])
    copied = draw.random() < 0.4 and golds[-1]
    answers.append(draw.choice(golds[-1]) if copied else text(4))
    no_answer.append(draw.uniform(-5, 5))
  return answers, golds, no_answer


def golden() -> list[str]:
  file = pathlib.Path(__file__).resolve().parents[1] / "golden" / "squad.txt"
  return file.read_text().splitlines()


@pytest.mark.parametrize("seed", range(200))
def test_scores_are_those_of_the_script(seed):
  values = spans.answering(*cases(seed))
  expected = golden()[seed].split()
  for name, number in zip(NAMES, expected, strict=True):
    if number == "-":
      assert name not in values
    else:
      is_share = not name.endswith("threshold")
      actual = 100 * values[name] if is_share else values[name]
      assert actual == pytest.approx(float(number), abs=1e-6), name
  assert values["f1_95"][0] <= values["f1"] <= values["f1_95"][1]


@pytest.mark.parametrize(
  "answer, golds, expected",
  # By hand from the script of version 1.1, where words that are not there never match.
  [
    ("the", ["a"], (1, 0)),
    ("Rome!", ["Paris", "the rome"], (1, 1)),
    ("in old Rome", ["Rome", "old town Rome"], (0, 2 / 3)),
    ("y y x", ["y z"], (0, 2 / 5)),
    ("", ["Rome"], (0, 0)),
  ],
)
def test_answers_of_version_1(answer, golds, expected):
  assert spans.question(answer, golds, empty=False) == pytest.approx(expected)
  values = spans.answering([answer], [golds])
  assert (values["exact"], values["f1"]) == pytest.approx(expected)
  assert sorted(values) == ["exact", "exact_95", "f1", "f1_95", "records"]


def test_without_words_two_texts_of_version_2_are_the_same():
  assert spans.question("the", ["a"], empty=True) == (1, 1)
