"""Scores of tagging equal seqeval's, which are those of conlleval."""

import warnings

import numpy as np
import pytest
import seqeval.metrics
from seqeval.metrics.sequence_labeling import get_entities
from sklearn.metrics import accuracy_score

from lm.scores import tags

TAGS = ["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "B", "I"]


def sentences(rng, lengths, most):
  return [[TAGS[i] for i in rng.integers(0, most, n)] for n in lengths]


@pytest.mark.parametrize("seed", range(200))
def test_scores_are_those_of_seqeval(seed):
  rng = np.random.default_rng(seed)
  lengths, most = rng.integers(1, 12, rng.integers(1, 9)), int(rng.integers(2, 10))
  actual, predicted = (sentences(rng, lengths, most) for _ in range(2))
  values = tags.tagging(actual, predicted)
  flat = [[tag for row in rows for tag in row] for rows in (actual, predicted)]
  assert values["accuracy"] == pytest.approx(accuracy_score(*flat), abs=1e-12)
  if any(tag[:2] in ("B-", "I-") for tag in flat[0]):
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of what is not defined
      for name in ("precision", "recall", "f1"):
        expected = getattr(seqeval.metrics, f"{name}_score")(actual, predicted)
        assert values[name] == pytest.approx(expected, abs=1e-12)
    low, high = values["f1_95"]
    assert 0 <= low <= high <= 1
  expected = {(kind, a, b) for kind, a, b in get_entities(predicted[0])}
  actual = {(kind or "_", a, b) for kind, a, b in tags.entities(predicted[0])}
  assert actual == expected


def test_a_word_without_a_tag_is_wrong_and_outside_of_entities():
  values = tags.tagging([["B-PER", "I-PER", "O"]], [["B-PER", "", ""]])
  assert (values["accuracy"], values["f1"]) == (1 / 3, 0)


def test_the_check_value_of_an_entity_without_its_beginning():
  gold = ["O", "B-PER", "I-PER", "O", "B-LOC"]
  assert tags.tagging([gold], [["O", "I-PER", "I-PER", "O", "B-LOC"]])["f1"] == 1.0


def test_parts_of_speech_have_no_entities():
  values = tags.tagging([["NOUN", "VERB", "NOUN"]], [["NOUN", "NOUN", "NOUN"]])
  assert "f1" not in values
  assert values["accuracy"] == values["commonest_tag"] == pytest.approx(2 / 3)
