"""Regression by every verb, of texts and of pairs; pairs as transformers reads them."""

import json
import random

import jax
import numpy as np
import processes
import pytest
import torch
import transformers
import wordpiece
from test_classify import MODELS, SIZES

import lm
from lm.objectives.regression import regression
from lm.tasks import _texts
from lm.tasks.regress import Task

NUMBERS = {"zero": 0.0, "one": 1.0, "two": 2.0, "three": 3.0}


def table(folder, total=300, pair=False):
  """Writes texts with a number in words; of pairs, the difference of two."""
  draw, rows = random.Random(0), []
  for number in range(total):
    texts, values = [], []
    for _ in range(1 + pair):
      word = draw.choice(list(NUMBERS))
      others = draw.choices("abcdefgh", k=draw.randrange(2, 5))
      others.insert(draw.randrange(len(others)), word)
      texts.append(" ".join([*others, str(number)]))
      values.append(NUMBERS[word])
    rows.append({"first": texts[0], "grade": values[0] - sum(values[1:])})
    if pair:
      rows[-1]["second"] = texts[1]
  return wordpiece.jsonl(folder / "texts.jsonl", rows)


def flags(folder, model="encoder", **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{field}" for field in (*MODELS[model], *SIZES)]
  changes += ["data.tokenizer=words-64", f"data.cache={folder / 'cache'}", "seq=32"]
  changes += ["optim.lr=1e-2", "optim.warmup=5", "eval.every=0"]
  changes += ["task.text=first", "task.value=grade"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/similarity.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_and_every_verb_reads_the_task(model, tmp_path):
  run = tmp_path / "run"
  values = dict(task__train=table(tmp_path), task__pair="", num_steps=120)
  trained = processes.run("train", *flags(tmp_path, model, **values))
  assert trained.code == 0, trained.err
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["pearson"] > 0.95 and scores["spearman"] > 0.9
  error = scores["mean_absolute_error"]
  assert scores["eval/absolute_error"] == pytest.approx(error, abs=1e-5)
  low, high = scores["pearson_95"]
  assert low <= scores["pearson"] <= high
  for text, value in (("a b zero c", 0), ("a three b", 3)):
    answer = processes.run("generate", f"--workdir={run}", f"--prompt={text}")
    assert (answer.code, answer.err) == (0, "")
    assert float(answer.out) == pytest.approx(value, abs=0.7)


def test_a_pair_by_every_verb(tmp_path):
  run = tmp_path / "run"
  values = dict(task__train=table(tmp_path, pair=True), task__pair="second")
  trained = processes.run("train", *flags(tmp_path, **values, num_steps=2))
  assert trained.code == 0, trained.err
  assert json.loads((run / "config.json").read_text())["task"]["types"] is True
  assert processes.run("evaluate", f"--workdir={run}").code == 0
  answers = [
    processes.run("generate", f"--workdir={run}", f"--prompt={prompt}")
    for prompt in ("a one\tb two", '{"text": "a one", "pair": "b two"}')
  ]
  assert answers[0].out == answers[1].out and answers[0].code == 0
  line = processes.refused("generate", f"--workdir={run}", "--prompt=a one")
  assert line == "text 2 of 2 is empty; wanted one to be read"


@pytest.mark.parametrize("value", ["much", "nan"])
def test_a_value_that_is_no_number(value, tmp_path):
  rows = [{"first": f"{number}", "grade": value} for number in range(30)]
  name = wordpiece.jsonl(tmp_path / "a.jsonl", rows)
  line = processes.refused("train", *flags(tmp_path, task__train=name, task__pair=""))
  assert f"grade={value!r} in split 'train' is no number; wanted one for ever" in line


def test_transformers_takes_the_model_for_one_of_regression(tmp_path):
  run, folder = tmp_path / "run", tmp_path / "hf"
  values = dict(task__train=table(tmp_path, pair=True), task__pair="second")
  values |= dict(num_steps=2, model__positions="learned", model__context=64)
  assert processes.run("train", *flags(tmp_path, **values)).code == 0
  assert processes.run("convert", f"--from={run}", f"--to={folder}").code == 0
  peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
  assert (peer.config.num_labels, peer.config.problem_type) == (1, "regression")
  tokenizer = lm.load(run)[2]
  ids, types, _ = _texts.encoded(tokenizer, ["a one 1", "two b"], 32)
  size = len(tokenizer.encode("a one 1"))
  assert types.tolist() == [0] * (size + 1) + [1] * 2 and ids[size] == tokenizer.eos
  with torch.no_grad():
    inputs = dict(input_ids=torch.tensor(ids[None]).long())
    inputs |= dict(token_type_ids=torch.tensor(types[None]).long())
    expected = float(peer.eval()(**inputs).logits[0, 0])
  for path in (run, folder):
    prompt = json.dumps({"text": "a one 1", "pair": "two b"})
    options = (f"--workdir={path}", f"--prompt={prompt}", "--format=json")
    answer = processes.run("generate", *options)
    assert json.loads(answer.out)["score"] == pytest.approx(expected, abs=2e-5)


def test_loss_and_gradient_are_those_of_transformers(tmp_path):
  options = dict(num_labels=1, hidden_dropout_prob=0.0)
  hf_model = wordpiece.model(tmp_path, "ForSequenceClassification", **options)
  model, params, tokenizer = lm.load(tmp_path)
  records = [
    {"text": "a b", "pair": "c", "score": 1.5},
    {"text": "d", "pair": "e f g", "score": -2.0},
    {"text": "h i", "pair": "j", "score": 0.25},
  ]
  task = Task(train="", pair="pair").for_model({"types": 2})
  row = task.rows(records, tokenizer, seq=32)[0]  # all three
  batch = {f"{key[:-1]}B{key[-1]}": value[None] for key, value in row.items()}

  def loss(params):
    sums = regression(model.apply, params, batch, None, train=False)
    return sums["loss"][0] / sums["loss"][1]

  value, gradient = jax.value_and_grad(loss)(params)
  peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  texts = [[r[name] for r in records] for name in ("text", "pair")]
  inputs = peer(*texts, padding=True, return_tensors="pt")
  labels = torch.tensor([r["score"] for r in records])
  expected = hf_model(**inputs, labels=labels).loss
  expected.backward()
  assert float(value) == pytest.approx(expected.item(), rel=1e-5)
  np.testing.assert_allclose(
    gradient["classifier"]["w"].T, hf_model.classifier.weight.grad, atol=1e-5
  )
  np.testing.assert_allclose(
    gradient["types"]["table"],
    hf_model.bert.embeddings.token_type_embeddings.weight.grad,
    atol=1e-5,
  )


def test_pairs_are_cut_and_marked_as_transformers_does(tmp_path):
  tokenizer, peer = wordpiece.pair(tmp_path, ["red", "blue"])
  draw = random.Random(0)
  for _ in range(200):
    texts = [
      " ".join(draw.choices(["red", "blue", "rab", "x"], k=draw.randrange(1, 12)))
      for _ in range(2)
    ]
    seq = draw.randrange(6, 30)
    expected = peer(*texts, truncation=True, max_length=seq)
    ids, types, is_cut = _texts.encoded(tokenizer, texts, seq)
    assert (ids.tolist(), types.tolist()) == (
      expected["input_ids"],
      expected["token_type_ids"],
    )
    assert is_cut == (len(peer(*texts)["input_ids"]) > seq)
