"""Classifiers that learn from another one: distilled, and trained on its labels."""

import collections
import dataclasses
import json
import pathlib

import jax
import numpy as np
import processes
import pytest
from test_classify import table

from lm.data import examples
from lm.data.loader import Loader
from lm.data.records import normal
from lm.data.tokenizers import byte_tokenizer
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.tasks import distill, few_labels
from lm.tasks._scarce import ORIGIN, TAUGHT

LABELS = ("cold", "none", "warm")
TINY = dict(model__family="rnn", model__width=32, model__layers=1, model__scan=False)


def flags(folder, config, workdir, **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = dict(init__path="", data__tokenizer="words-64", seq=32, eval__every=0)
  changes |= dict(data__cache=folder / "cache", optim__lr=1e-2, optim__warmup=5)
  changes |= TINY | {"model__dropout": 0.0} | values
  if "distil" in config:
    del changes["init__path"]
  return [
    f"--config=configs/tasks/{config}",
    f"--workdir={folder / workdir}",
    *(f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()),
  ]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  """Returns (folder, table): a run that has learnt the classes, in folder/teacher."""
  folder = tmp_path_factory.mktemp("taught")
  values = dict(task__train=table(folder), task__labelled=60, num_steps=60)
  run = processes.run(
    "train", *flags(folder, "few_labels.py:teacher", "teacher", **values)
  )
  assert run.code == 0, run.err
  assert "labels: 60 of 3" in run.out
  return folder, values["task__train"]


def test_a_student_with_other_tokens_learns_from_probabilities_alone(teacher):
  folder, name = teacher
  values = dict(task__train=name, task__labelled=3, loss__alpha=1.0, num_steps=80)
  values |= dict(data__tokenizer="bpe-300", teacher=folder / "teacher")
  trained = processes.run("train", *flags(folder, "distil.py", "student", **values))
  assert trained.code == 0, trained.err
  first, *_, last = processes.metrics(folder / "student")
  assert last["eval/divergence"] < first["train/divergence"] / 3
  scored = processes.run("evaluate", f"--workdir={folder / 'student'}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["teacher"]["accuracy"] > 0.9 and scores["accuracy"] > 0.8
  assert scores["accuracy"] == pytest.approx(scores["eval/accuracy"])
  answer = processes.run(
    "generate", f"--workdir={folder / 'student'}", "--prompt=green"
  )
  assert answer.code == 0 and answer.out.split()[0] in LABELS


def test_a_killed_student_goes_on_to_the_same_bits(teacher):
  folder, name = teacher
  for config, more in (("distil.py", {}), ("few_labels.py", dict(task__threshold=0.5))):
    values = dict(task__train=name, task__labelled=30, teacher=folder / "teacher")
    values |= dict(num_steps=9, checkpoint__every=3) | more
    whole, parts = (flags(folder, config, f"{config}-{i}", **values) for i in range(2))
    done = processes.run("train", *whole)
    assert done.code == 0, done.err
    run = processes.start("train", *parts)
    run.until((folder / f"{config}-1" / "checkpoints" / "3").exists).kill()
    assert processes.run("train", *parts).code == 0
    processes.assert_same_bits(folder / f"{config}-0", folder / f"{config}-1", 9)


def test_self_training_says_what_it_labels_and_learns_more(teacher):
  folder, name = teacher
  values = dict(task__train=name, task__labelled=9, num_steps=80, batch=8)
  values |= dict(task__threshold=0.5)
  alone = processes.run(
    "train", *flags(folder, "few_labels.py:teacher", "alone", **values)
  )
  assert alone.code == 0, alone.err
  values |= dict(teacher=folder / "teacher")
  trained = processes.run("train", *flags(folder, "few_labels.py", "more", **values))
  assert trained.code == 0, trained.err
  [line] = [x for x in trained.out.splitlines() if x.startswith("labels of ")]
  assert "at 0.5 or more of 3" in line and " of each class are kept" in line
  accuracy = [
    processes.metrics(folder / run)[-1]["eval/accuracy"] for run in ("alone", "more")
  ]
  assert accuracy[1] > accuracy[0] + 0.1
  scored = processes.run("evaluate", f"--workdir={folder / 'more'}")
  assert scored.code == 0, scored.err
  assert "teacher" in json.loads(scored.out)


class Oracle:
  """A teacher that knows the class of a text, and is as sure as `chance` says."""

  path = "oracle"

  def __init__(self, chance=lambda text: 1.0):
    self.chance = chance

  def answers(self, records):
    assert all("label" not in record for record in records)
    return [
      {"label": label_of(r["text"]), "probability": self.chance(r["text"])}
      for r in records
    ]


def label_of(text):
  words = dict(red="warm", orange="warm", blue="cold", green="cold", grey="none")
  return next(words[word] for word in text.split() if word in words)


def read(folder, task=few_labels.Task, **options):
  """Returns (the task, its splits) of the table in a folder."""
  task = task(train=table(pathlib.Path(folder)), **options)
  splits = examples.read(task, cache=folder)
  return task.resolved(splits), splits


def test_the_few_labels_are_even_and_the_others_are_not_read(tmp_path):
  task, splits = read(tmp_path, labelled=50)
  own = [r for r in splits.train if ORIGIN not in r]
  counts = collections.Counter(record["label"] for record in own)
  assert task.labels == LABELS and sorted(counts.values()) == [16, 17, 17]
  rest = [r for r in splits.train if ORIGIN in r]
  assert len(rest) + 50 == len(splits.train)
  assert all(set(record) == {"text", ORIGIN} for record in rest)
  _, again = read(tmp_path, labelled=50)
  assert again == splits
  _, everything = read(tmp_path)
  assert not any(ORIGIN in record for record in everything.train)
  assert everything.heldout == splits.heldout
  message = "labelled=900 takes 300 of class cold, and "
  with pytest.raises(Mistake, match=message):
    read(tmp_path, labelled=900)


def test_no_held_out_text_is_ever_labelled(tmp_path):
  _, splits = read(tmp_path)
  texts = [f" {r['text'].upper()}" for r in (*splits.heldout, *splits.train[:9])]
  file = tmp_path / "more.jsonl"
  rows = [dict(text=text) for text in (*texts, "new red", "new red", "new grey", "")]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  for kind in (few_labels.Task, distill.Task):
    task, splits = read(tmp_path, kind, unlabelled=f"jsonl:{file}")
    added = [r["text"] for r in splits.train if ORIGIN in r]
    assert added == ["new red", "new grey"]
    assert splits.left_out == {
      "held out, or there before": len(texts) + 1,
      "no text": 1,
    }
  task, splits = read(tmp_path, unlabelled=f"jsonl:{file}", labelled=6)
  taught = task.taught(splits, Oracle(), log=lambda line: None)
  held_out = {normal(record["text"]) for record in splits.heldout}
  assert not held_out & {normal(record["text"]) for record in taught.train}
  assert taught.heldout == splits.heldout


def test_an_oracle_is_supervision_balanced_by_class(tmp_path):
  task, splits = read(tmp_path, labelled=9)
  lines = []
  taught = task.taught(splits, Oracle(), log=lines.append)
  counts = collections.Counter(
    r["label"] for r in taught.train if ORIGIN in r and "label" in r
  )
  assert len(set(counts.values())) == 1 and set(counts) == set(LABELS)
  rarest = min(
    collections.Counter(
      label_of(r["text"]) for r in splits.train if ORIGIN in r
    ).values()
  )
  assert counts["none"] == rarest
  for before, after in zip(splits.train, taught.train, strict=True):
    assert before["text"] == after["text"]
    if after.get(ORIGIN) == TAUGHT:
      assert after["label"] == label_of(after["text"])
  assert f"{rarest:,} of each class are kept" in lines[0]


def test_a_threshold_that_nothing_reaches_leaves_the_labels_alone(tmp_path):
  task, splits = read(tmp_path, labelled=9, threshold=1.01)
  taught = task.taught(splits, Oracle(), log=lambda line: None)
  assert taught == splits
  tokenizer = byte_tokenizer()
  rows = [task.rows(s.train, tokenizer, seq=64) for s in (splits, taught)]
  own = [r for r in splits.train if ORIGIN not in r]
  expected = task.rows(own, tokenizer, seq=64)
  for given in rows:
    assert len(given) == len(expected)
    for index in range(len(given)):
      for key, value in given[index].items():
        np.testing.assert_array_equal(value, expected[index][key])


def test_the_surest_are_kept(tmp_path):
  task, splits = read(tmp_path, labelled=9)
  number = lambda text: int(text.split()[-1])
  sure = Oracle(lambda text: 0.9 + number(text) / 1e5)
  taught = task.taught(splits, sure, log=lambda line: None)
  for label in LABELS:
    candidates = sorted(
      (r for r in splits.train if ORIGIN in r and label_of(r["text"]) == label),
      key=lambda r: -number(r["text"]),
    )
    kept = {
      r["text"] for r in taught.train if r.get(ORIGIN) == TAUGHT and r["label"] == label
    }
    assert kept == {r["text"] for r in candidates[: len(kept)]}


def test_every_batch_has_labels_of_both_kinds(tmp_path):
  task, splits = read(tmp_path, labelled=9)
  taught = task.taught(splits, Oracle(), log=lambda line: None)
  tokenizer = byte_tokenizer()
  rows = task.rows(taught.train, tokenizer, seq=64)
  own = dataclasses.replace(task, gold=0.25).rows(
    [r for r in splits.train if ORIGIN not in r], tokenizer, seq=64
  )
  gold = {own[i]["tokens_T"].tobytes() for i in range(len(own))}
  loader = Loader(rows, batch=8, mesh=make_mesh(jax.devices()[:1]), seed=3)
  for step in range(6):
    tokens_BT = np.asarray(loader(step)["tokens_BT"])
    assert sum(row.tobytes() in gold for row in tokens_BT) == 2


def test_what_has_no_class_teaches_none(teacher):
  folder, name = teacher
  values = dict(task__train=name, teacher=folder / "teacher")
  others = folder / "others.csv"
  others.write_text("text,label\n" + "".join(f"a {i},{i % 2}\n" for i in range(40)))
  values |= dict(task__labelled=10)
  options = flags(folder, "distil.py", "x", **values)
  line = processes.refused("train", *options, f"--config.task.train=csv:{others}")
  assert "names classes cold, none, warm; wanted those of the task, 0, 1" in line
  del values["teacher"]
  line = processes.refused("train", *flags(folder, "distil.py", "x", **values))
  assert "objective 'distill_classes' learns from another model; name it: --con" in line
  options = flags(folder, "classify.py", "x", task__train=name, teacher="runs/none")
  line = processes.refused("train", *options)
  assert "objective 'classify' learns from no other model; leave it out" in line
  assert not (folder / "x").exists()
