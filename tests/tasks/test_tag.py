"""Tagging by every verb; first tokens of words; the loss as transformers has it."""

import json
import random

import jax
import numpy as np
import processes
import pytest
import torch
import transformers
import wordpiece
from test_regress import SIZES

import lm
from lm.data import tokenizers
from lm.objectives.tag import tag
from lm.tasks.tag import Task, first_tokens

PLACES = {"rome": "LOC", "paris": "LOC", "ada": "PER", "bob": "PER"}


def sentence(draw) -> tuple[list, list]:
  words, tags = [], []
  for _ in range(draw.randrange(3, 9)):
    name = draw.choice([*PLACES, "", "", ""])
    words += [name, "north"] if name == "rome" else [name or draw.choice("abcdefgh")]
    tags += [f"B-{PLACES[name]}"] if name else ["O"]
    tags += ["I-LOC"] if name == "rome" else []
  return words, tags


def table(folder, total=300):
  """Writes sentences with names in a file of CoNLL's; returns the table's name."""
  draw, file = random.Random(0), folder / "names.conll"
  blocks = ["-DOCSTART- -X- O"]
  for _ in range(total):
    lines = [f"{a} X {b}" for a, b in zip(*sentence(draw), strict=True)]
    blocks.append("\n".join(lines))
  file.write_text("\n\n".join(blocks) + "\n")
  return f"conll:{file}"


def flags(folder, **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{x}" for x in (*SIZES, "family=encoder", "heads=2")]
  changes += ["data.tokenizer=words-64", f"data.cache={folder / 'cache'}", "seq=32"]
  changes += ["model.positions=learned", "optim.lr=1e-2", "optim.warmup=5"]
  changes += ["num_steps=150", "eval.every=0"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/tagging.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


def test_it_learns_and_every_verb_reads_the_task(tmp_path):
  run, folder = tmp_path / "run", tmp_path / "hf"
  trained = processes.run("train", *flags(tmp_path, task__train=table(tmp_path)))
  assert trained.code == 0, trained.err
  scores = json.loads(processes.run("evaluate", f"--workdir={run}").out)
  assert scores["accuracy"] > 0.99 and scores["f1"] > 0.97
  assert scores["f1_95"][0] <= scores["f1"] <= scores["f1_95"][1]
  assert scores["eval/accuracy"] == pytest.approx(scores["accuracy"])
  assert processes.run("convert", f"--from={run}", f"--to={folder}").code == 0
  prompt = "--prompt=a ada b rome north"
  for path in (run, folder):
    answer = processes.run("generate", f"--workdir={path}", prompt)
    assert answer.out == "a/O ada/B-PER b/O rome/B-LOC north/I-LOC\n", answer.err
  peer = transformers.AutoModelForTokenClassification.from_pretrained(folder)
  labels = {0: "B-LOC", 1: "B-PER", 2: "I-LOC", 3: "O"}
  assert peer.config.id2label == labels
  model, params, tokenizer = lm.load(run)
  ids = tokenizer.prompt("a ada b rome north")[None]
  with torch.no_grad():
    expected = peer.eval()(torch.tensor(ids).long()).logits
  actual, _ = model.apply({"params": params}, ids)
  np.testing.assert_allclose(actual, expected, atol=5e-5)
  words = '--prompt={"words": ["a", "ada"]}'
  answer = processes.run("generate", f"--workdir={run}", words, "--format=json")
  assert json.loads(answer.out) == {"words": ["a", "ada"], "tags": ["O", "B-PER"]}


@pytest.mark.parametrize(
  "rows, message",
  [
    ([{"words": "a b", "tags": "O"}] * 40, "2 words and 1 tags in split"),
    ([{"words": "a b", "tags": "O O"}] * 40, "has one class, 'O'; wanted two or more"),
  ],
)
def test_tags_that_do_not_fit(rows, message, tmp_path):
  rows = [row | {"words": f"{row['words']}{number}"} for number, row in enumerate(rows)]
  name = wordpiece.jsonl(tmp_path / "a.jsonl", rows)
  assert message in processes.refused("train", *flags(tmp_path, task__train=name))


def test_a_line_without_a_tag_is_told_by_its_number(tmp_path):
  (tmp_path / "a.conll").write_text("a X O\n\nb X\n")
  name = f"conll:{tmp_path / 'a.conll'}"
  line = processes.refused("train", *flags(tmp_path, task__train=name))
  assert "a.conll line 3: 2 columns; wanted 3, a word first and its tag last" in line


def test_first_tokens_are_those_of_transformers(tmp_path):
  tokenizer, peer = wordpiece.pair(tmp_path, ["red", "blue"])
  draw = random.Random(0)
  for _ in range(200):
    words = draw.choices(
      ["red", "blue", "rabbit", "x-y", "\u200b"], k=draw.randrange(1, 9)
    )
    seq = draw.randrange(4, 40)
    inputs = peer(words, is_split_into_words=True, truncation=True, max_length=seq)
    expected = [-1] * len(words)
    for place, number in reversed(list(enumerate(inputs.word_ids()))):
      if number is not None:
        expected[number] = place
    ids, first_R = first_tokens(tokenizer, words, seq)
    assert ids.tolist() == inputs["input_ids"]
    assert first_R.tolist() == expected


@pytest.mark.parametrize("name", ["bytes", "bpe-300", "words-64"])
def test_first_tokens_begin_their_words(name):
  words = ["ünï", "cold", "日本", "x-y", "ünï"]
  tokenizer = tokenizers.make(name, [" ".join(words)] * 20)
  ids, first_R = first_tokens(tokenizer, words, 99)
  assert (np.diff(first_R) > 0).all() and first_R[0] == 0
  if name != "words-64":
    parts = np.split(ids, first_R[1:])
    assert [tokenizer.decode(part).strip() for part in parts] == words


def test_loss_and_gradient_are_those_of_transformers(tmp_path):
  options = dict(num_labels=3, hidden_dropout_prob=0.0)
  hf_model = wordpiece.model(tmp_path, "ForTokenClassification", **options)
  model, params, tokenizer = lm.load(tmp_path)
  task = Task(train="", labels=("A", "B", "O"))
  records = [
    {"words": ["one", "two"], "tags": ["A", "O"]},
    {"words": ["three"], "tags": ["B"]},
  ]
  row = task.rows(records, tokenizer, seq=32)[0]
  batch = {f"{key[:-1]}B{key[-1]}": value[None] for key, value in row.items()}

  def loss(params):
    sums = tag(model.apply, params, batch, None, train=False)
    return sums["loss"][0] / sums["loss"][1]

  value, gradient = jax.value_and_grad(loss)(params)
  peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  words = [record["words"] for record in records]
  inputs = peer(words, is_split_into_words=True, padding=True, return_tensors="pt")
  labels = np.full(inputs["input_ids"].shape, -100)
  labels[0, 1], labels[0, 4], labels[1, 1] = 0, 2, 1  # o n e t w o; t h r e e
  expected = hf_model(**inputs, labels=torch.tensor(labels)).loss
  expected.backward()
  assert float(value) == pytest.approx(expected.item(), rel=1e-5)
  np.testing.assert_allclose(
    gradient["classifier"]["w"].T, hf_model.classifier.weight.grad, atol=1e-5
  )


def test_answers_of_long_sentences_count_all_their_words(tmp_path):
  wordpiece.model(tmp_path, "ForTokenClassification", num_labels=2)
  model, params, tokenizer = lm.load(tmp_path)
  task = Task(train="", labels=("A", "B"))
  records = [{"words": ["ab"] * n, "tags": ["A"] * n} for n in (1, 9, 3)]
  answers = task.answers(model, params, tokenizer, records, seq=8)
  assert [len(answer["tags"]) for answer in answers] == [1, 9, 3]
  assert [tag in ("A", "B") for tag in answers[1]["tags"]] == [True] * 3 + [False] * 6
  assert task.score(answers, records)["words"] == 13
