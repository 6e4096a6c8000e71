"""Cleaning in stages is cleaning in memory: texts, reasons, names, for any cut."""

import copy
import dataclasses
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.data import clean
from lm.data.clean import dedup, documents
from lm.data.corpus import duplicates, stages
from lm.data.sources import _chunks

HELD, TRAIN = _chunks.HELDOUT, _chunks.TRAIN


def prose(seed, num_words=120):
  rng = np.random.default_rng(seed)
  return " ".join(f"word{number}" for number in rng.integers(1000, size=num_words))


def changed(text, seed, count):
  """Returns a text of which some words are others."""
  words, draw = text.split(), random.Random(seed)
  for place in draw.sample(range(len(words)), count):
    words[place] = f"new{seed}x{place}"
  return " ".join(words)


# A document: the split, and a new text, or a copy or a near copy of an earlier one.
PLANS = st.lists(
  st.tuples(
    st.booleans(),
    st.sampled_from(["new", "new", "copy", "near", "near", "far", "\x00", " "]),
    st.integers(0, 30),
    st.integers(0, 3),
  ),
  min_size=2,
  max_size=24,
)


def corpus(plans):
  """Returns [(record, number)]: documents, copies, near copies and chains of them."""
  texts, result = [prose(1000)], []
  for index, (is_held, kind, of, seed) in enumerate(plans):
    original = texts[of % len(texts)]
    text = {
      "new": lambda index=index: prose(index),
      "copy": lambda original=original: original,
      "near": lambda original=original, seed=seed: changed(original, seed, 3),
      "far": lambda original=original, seed=seed: changed(original, seed, 30),
    }.get(kind, lambda kind=kind: kind)()
    texts += [text] if kind in ("new", "near", "far") else []
    result.append(({"id": f"d{index}", "text": text}, HELD if is_held else TRAIN))
  return [({"id": "h", "text": prose(1000)}, HELD), *result]


def in_memory(pairs, rules):
  """Returns ({split: texts}, {split: Report}) by the cleaning of notebooks."""
  records = {split: [r for r, n in pairs if n == split] for split in (HELD, TRAIN)}
  of_heldout = dataclasses.asdict(documents.heldout_rules(rules))
  heldout, heldout_report = documents.clean(records[HELD], **of_heldout)
  against = () if rules.dedup == "off" else heldout
  train, report = documents.clean(
    records[TRAIN], against=against, **dataclasses.asdict(rules)
  )
  kept = {"train": train, "heldout": heldout}
  texts = {split: [record["text"] for record in kept[split]] for split in kept}
  return texts, {"train": report, "heldout": heldout_report}


class Chunk(list):
  """Documents as a chunk of a source."""

  num_bytes = 100

  def read(self):
    return iter(self)


def in_stages(folder, pairs, rules, each, order=0):
  """Returns the same, with chunks of `each` documents and tasks in some order."""
  chunks = [Chunk(pairs[i : i + each]) for i in range(0, len(pairs), each)]
  job = stages.Job(folder, rules, len(chunks))
  draw = random.Random(order)

  def run(stage, tasks):
    tasks = list(tasks)
    draw.shuffle(tasks)
    for task in tasks:
      copy.copy(job).run(stage, task)  # as another process does

  run("clean", enumerate(chunks))
  job = job.with_parts()
  run("pairs", range(job.num_parts))
  run("verify", range(len(chunks)) if job.signs else ())
  reports = job.decide()
  return {split: list(job.kept(split)) for split in reports}, reports


@settings(max_examples=60, deadline=None)
@given(PLANS, st.sampled_from(clean.DEDUP), st.data())
def test_stages_do_what_cleaning_in_memory_does(tmp_path_factory, plans, rule, data):
  pairs, rules = corpus(plans), clean.Rules(dedup=rule)
  expected = in_memory(pairs, rules)
  if not expected[0]["train"]:
    return
  each = data.draw(st.sampled_from([1, 2, 5, len(pairs)]))
  actual = in_stages(tmp_path_factory.mktemp("job"), pairs, rules, each)
  assert actual == expected


def test_every_cut_and_order_and_number_of_parts_is_one(tmp_path, monkeypatch):
  kinds = ["new", "copy", "near", "near"]
  plans = [(n % 9 == 0, kinds[n % 4], n * 7, n % 3) for n in range(60)]
  pairs, rules = corpus(plans), clean.Rules(dedup="minhash")
  expected = in_memory(pairs, rules)
  assert len(expected[1]["train"].dropped) == 3
  in_stages(tmp_path / "whole", pairs, rules, 100)
  note = json.loads((tmp_path / "whole" / "clean" / "00000.json").read_text())
  num_bytes = note["keys"] * duplicates.KEY.itemsize
  for parts, each, order in ((1, 1, 0), (7, 1, 1), (7, 10, 2), (1, 61, 3), (7, 61, 4)):
    monkeypatch.setattr(stages, "KEYS_BYTES", num_bytes // parts + 1)
    folder = tmp_path / f"{parts}.{each}"
    assert in_stages(folder, pairs, rules, each, order) == expected
    assert len(list(folder.glob("pairs/*.npy"))) == parts


def test_text_is_compared_with_all_of_what_is_held_out(tmp_path):
  base = prose(5, 400)
  held = [changed(base, seed, 8) for seed in range(300)]
  # Near the last ones alone, and in a bucket with all of them.
  train = [changed(text, 1000 + n, 4) for n, text in enumerate(held[-3:])]
  train += [prose(9)]
  pairs = [({"id": f"h{n}", "text": text}, HELD) for n, text in enumerate(held)]
  pairs += [({"id": f"t{n}", "text": text}, TRAIN) for n, text in enumerate(train)]
  for rule in ("none", "exact", "minhash"):
    rules = clean.Rules(dedup=rule)
    texts, reports = in_stages(tmp_path / rule, pairs, rules, 50)
    assert (texts, reports) == in_memory(pairs, rules)
    assert texts["train"] == [prose(9)]


def test_crowds_are_counted(tmp_path, monkeypatch):
  monkeypatch.setattr(duplicates, "CROWD", 3)
  texts = [changed(prose(5, 400), seed, 1) for seed in range(8)]
  pairs = [({"id": "h", "text": prose(1)}, HELD)]
  pairs += [({"id": f"t{n}", "text": text}, TRAIN) for n, text in enumerate(texts)]
  kept, reports = in_stages(tmp_path, pairs, clean.Rules(dedup="minhash"), 4)
  assert kept["train"] == texts[:1] and reports["train"].crowded > 3
  assert "crowded groups" in reports["train"].lines()[-1]


def test_jaccard_is_that_of_sets():
  for seed in range(50):
    draw = np.random.default_rng(seed)
    a, b = (np.unique(draw.integers(0, 60, size)) for size in draw.integers(1, 60, 2))
    a, b = a.astype(np.uint64), b.astype(np.uint64)
    union, both = set(a) | set(b), set(a) & set(b)
    assert dedup.jaccard(a, b) == dedup.jaccard(b, a) == len(both) / len(union)


def test_a_task_that_is_done_is_not_done_again(tmp_path):
  pairs = corpus([(False, "new", 0, 0)] * 3)
  rules = clean.Rules()
  in_stages(tmp_path, pairs, rules, 2)
  files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
  in_stages(tmp_path, pairs, rules, 2)
  assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == files


def test_nothing_left_is_one_line(tmp_path):
  pairs = [({"id": "a", "text": prose(1)}, HELD), ({"id": "b", "text": "x"}, TRAIN)]
  with pytest.raises(ValueError, match=r"left nothing of the train text: kept 0 of 1"):
    in_stages(tmp_path, pairs, clean.Rules(min_chars=9), 1)
