"""Held-out items, and the score of each."""

import dataclasses

import numpy as np
import pytest

from lm.data import Data
from lm.study import items
from lm.tasks import classify
from lm.train.config import Experiment


def experiment(path, **changes):
  data = Data(source=f"text:{path}", tokenizer="bpe-300", cache=str(path / "cache"))
  model = {"family": "rnn"}
  values = dict(num_steps=1, batch=4, seq=16, model=model, data=data) | changes
  return Experiment(**values)


@pytest.mark.parametrize(
  "text",
  ["a b\n" * 700, "x" * 2_500, "我很喜欢" * 600, " \n" * 900, "a", "wo " * 399 + "r"],
)
def test_passages_are_the_text(text):
  parts = items.passages(text)
  assert "".join(parts) == text
  assert all(0 < len(part) <= items.PASSAGE for part in parts)
  if " " in text or "\n" in text:
    assert all(part[-1].isspace() for part in parts[:-1])


def test_the_items_of_a_corpus_are_its_held_out_text(tmp_path, monkeypatch):
  documents = [f"Document {i}: naïve 我 words.\n" * 40 for i in range(200)]
  for i, document in enumerate(documents):
    (tmp_path / f"{i:03}.txt").write_text(document)
  quiet = dict(log=lambda line: None)
  few = items.of(experiment(tmp_path), **quiet)
  assert "passages of" in few.about and few.task is None and few.note
  texts = [record["text"] for record in few.records]
  whole = "".join(texts)
  heldout = [d for d in documents if d.strip() in whole]
  assert 5 <= len(heldout) < 40
  assert len(whole) == pytest.approx(sum(map(len, heldout)), abs=2 * len(heldout))
  monkeypatch.setattr(items, "FEW", 2)
  many = items.of(experiment(tmp_path), **quiet)
  assert many.about == f"{len(heldout)} held-out documents of text:{tmp_path}"
  assert not many.note
  monkeypatch.setattr(items, "MOST", 3)
  assert len(items.of(experiment(tmp_path), **quiet).records) == 3


def test_metrics_that_are_means_over_records():
  task = classify.Task(train="", labels=("a", "b"))
  records = [{"text": "", "label": label} for label in "aabbb"]
  answers = [{"label": label} for label in "abbba"]
  metrics = items.of_answers(items.Items("", records, task), answers)
  assert set(metrics) == {"accuracy"}
  np.testing.assert_array_equal(metrics["accuracy"].values_R, [1, 0, 1, 1, 0])
  assert metrics["accuracy"].mean == 0.6 and not metrics["accuracy"].less


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio(classify.Task):
  """A task whose only score is no mean."""

  def score(self, answers, records):
    return {"records": len(records)}


def test_a_task_without_such_a_metric(monkeypatch):
  monkeypatch.setattr(items.tasks, "options", lambda task: {"name": "ratio"})
  records = [{"label": "a"}] * 2
  with pytest.raises(ValueError, match="no score of task 'ratio' is a mean over recor"):
    items.of_answers(items.Items("", records, Ratio(train="")), [{}, {}])
