"""Records of tables: none twice, none in both splits, the same ones when more come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import examples, records, sources
from lm.tasks import classify

TEXTS = st.lists(st.text("abAB \n", max_size=6), min_size=1, max_size=60)


def task_of(folder, train, heldout=None):
  """Returns a Task on files of these texts, the label their length."""
  names = {}
  for split, texts in (("train", train), ("heldout", heldout)):
    if texts is not None:
      file = folder / f"{split}.jsonl"
      rows = [{"text": text, "label": str(len(text))} for text in texts]
      file.write_text("".join(json.dumps(row) + "\n" for row in rows))
      names[split] = f"jsonl:{file}"
  return classify.Task(**names)


def read(task):
  return examples.read(task, cache="")


@given(texts=TEXTS)
def test_each_text_is_in_one_split_once(texts, tmp_path_factory):
  splits = read(task_of(tmp_path_factory.mktemp("a"), texts))
  kept = [records.normal(r["text"]) for r in (*splits.train, *splits.heldout)]
  assert len(set(kept)) == len(kept)
  assert set(kept) == {records.normal(text) for text in texts} - {""}
  assert len(kept) + sum(splits.left_out.values()) == len(texts)


@given(texts=TEXTS, more=TEXTS)
def test_a_text_stays_in_its_split_when_others_come(texts, more, tmp_path_factory):
  before = read(task_of(tmp_path_factory.mktemp("a"), texts))
  after = read(task_of(tmp_path_factory.mktemp("a"), [*texts, *more]))
  for split in ("train", "heldout"):
    old, new = getattr(before, split), getattr(after, split)
    assert new[: len(old)] == old


@given(texts=TEXTS, heldout=TEXTS)
def test_given_held_out_texts_stay_and_leave_training(texts, heldout, tmp_path_factory):
  folder = tmp_path_factory.mktemp("a")
  splits = read(task_of(folder, texts, heldout))
  held = {records.normal(record["text"]) for record in splits.heldout}
  assert [r["text"] for r in splits.heldout] == [x for x in heldout if x.strip()]
  assert not held & {records.normal(record["text"]) for record in splits.train}


def test_a_record_without_a_value_is_left_out_and_counted(tmp_path):
  file = tmp_path / "a.csv"
  file.write_text("text,label,stars\nA b,x,1\n,y,2\nc,,3\na  B,x,4\n")
  splits = read(classify.Task(train=f"csv:{file}"))
  assert splits.left_out == {"no text": 1, "no label": 1, "repeated": 1}
  kept = [*splits.train, *splits.heldout]
  assert kept == [{"text": "A b", "label": "x"}]


def test_columns_by_other_names(tmp_path):
  file = tmp_path / "a.csv"
  file.write_text("review,stars\ngood,5\nbad,1\n")
  splits = read(classify.Task(train=f"csv:{file}", text="review", label="stars"))
  kept = sorted(r["label"] for r in (*splits.train, *splits.heldout))
  assert kept == ["1", "5"]
  with pytest.raises(
    ValueError, match="has no column 'label'; found: 'review', 'stars'"
  ):
    read(classify.Task(train=f"csv:{file}", text="review"))


def test_a_source_of_a_tables_texts_holds_out_what_a_task_holds_out(tmp_path):
  texts = [f"text number {i}" for i in range(60)]
  task = task_of(tmp_path, texts)
  splits, parts = read(task), sources.documents(f"table:{task.train}", cache=tmp_path)
  for split in ("train", "heldout"):
    expected = [record["text"] for record in getattr(splits, split)]
    assert [record["text"] for record in parts[split]] == expected
    assert len({record["id"] for record in parts[split]}) == len(expected)
  before = sources.fingerprint(f"table:{task.train}", cache=tmp_path)
  task_of(tmp_path, [*texts, "another"])
  assert sources.fingerprint(f"table:{task.train}", cache=tmp_path) != before
