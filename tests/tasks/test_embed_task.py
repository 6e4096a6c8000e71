"""Embeddings from pairs: PyTorch's loss, every verb, scikit-learn's scores."""

import json
import random

import jax
import numpy as np
import processes
import pytest
import torch
import wordpiece
from sklearn.metrics import label_ranking_average_precision_score
from test_regress import SIZES

import lm
from lm.generate.embed import embed
from lm.objectives.contrastive import contrastive
from lm.scores import retrieval
from lm.tasks.embed import Task

PAIRS = [("a b", "c d e"), ("f", "g"), ("h i j", "k"), ("A b", "l m"), ("n", "G")]


def batch_of(tokenizer):
  records = [{"text": text, "pair": pair} for text, pair in PAIRS]
  rows = Task(train="").rows(records, tokenizer, seq=32)
  rows = [rows[number] for number in range(len(rows))]
  return {f"{key[:-1]}B{key[-1]}": np.stack([r[key] for r in rows]) for key in rows[0]}


def test_loss_is_that_of_pytorch_without_wrong_answers_that_are_right(tmp_path):
  wordpiece.model(tmp_path, "Model")
  model, params, tokenizer = lm.load(tmp_path)
  batch = batch_of(tokenizer)
  sums, gradient = jax.value_and_grad(
    lambda params: contrastive(model.apply, params, batch, None, train=False)["loss"][0]
  )(params)
  x_RD, y_RD = (
    torch.tensor(embed(model, params, tokenizer, list(texts), pooling="mean"))
    for texts in zip(*PAIRS, strict=True)
  )
  logits_RR = 20 * x_RD @ y_RD.T
  # "a b" is "A b", and "g" is "G": neither is a wrong answer for the other.
  for i, j in ((0, 3), (1, 4)):
    logits_RR[i, j] = logits_RR[j, i] = -torch.inf
  loss = torch.nn.functional.cross_entropy
  expected = loss(logits_RR, torch.arange(len(PAIRS)), reduction="sum")
  assert float(sums) == pytest.approx(float(expected), rel=1e-4)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_what_is_padding_changes_nothing(tmp_path):
  wordpiece.model(tmp_path, "Model")
  model, params, tokenizer = lm.load(tmp_path)
  batch = batch_of(tokenizer)
  empty = {key: np.zeros_like(x[:1]) for key, x in batch.items()}
  longer = {key: np.concatenate([x, empty[key]]) for key, x in batch.items()}
  first, second = (
    contrastive(model.apply, params, x, None, train=False) for x in (batch, longer)
  )
  for name in first:
    np.testing.assert_allclose(first[name], second[name], rtol=1e-5)


@pytest.mark.parametrize("seed", range(200))
def test_scores_are_those_of_scikit_learn(seed):
  rng = np.random.default_rng(seed)
  cosine_RR = rng.standard_normal((int(rng.integers(2, 20)),) * 2)
  own_RR = np.eye(len(cosine_RR), dtype=bool)
  values = retrieval.retrieval(cosine_RR, own_RR)
  expected = label_ranking_average_precision_score(own_RR, cosine_RR)
  assert values["mean_reciprocal_rank"] == pytest.approx(expected)
  nearest_R = np.argmax(cosine_RR, axis=1)
  assert values["recall_at_1"] == np.mean(nearest_R == np.arange(len(nearest_R)))


def test_it_learns_and_every_verb_reads_the_task(tmp_path):
  run, draw = tmp_path / "run", random.Random(0)
  names = {"red": "ruby", "blue": "sea", "green": "leaf", "grey": "ash", "pink": "rose"}
  rows = []
  for number in range(300):
    first, second = draw.sample(list(names), 2)
    text = f"{first} {draw.choice('abc')} {second} {number}"
    pair = f"{names[first]} {draw.choice('def')} {names[second]} {number + 1}"
    rows.append({"text": text, "pair": pair, "grade": number % 3})
  changes = [f"model.{x}" for x in (*SIZES, "family=encoder", "heads=2")]
  changes += ["model.positions=rotary", "init.path=", "data.tokenizer=words-64"]
  changes += [f"data.cache={tmp_path / 'cache'}", "seq=32", "optim.lr=1e-2", "batch=8"]
  changes += ["task.text=text", "task.pair=pair", "eval.every=0", "num_steps=60"]
  changes += ["optim.warmup=5", "task.value=grade"]
  changes += [f"task.train={wordpiece.jsonl(tmp_path / 'a.jsonl', rows)}"]
  options = [f"--config.{change}" for change in changes]
  config = "--config=configs/tasks/embed.py"
  trained = processes.run("train", config, f"--workdir={run}", *options)
  assert trained.code == 0, trained.err
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["mean_reciprocal_rank"] > 0.4  # of 1 + 1/2 + ... by chance: 0.13
  assert -1 <= scores["spearman"] <= 1
  answer = processes.run("generate", f"--workdir={run}", "--prompt=red\truby")
  other = processes.run("generate", f"--workdir={run}", "--prompt=red\tash")
  assert float(answer.out) > float(other.out), answer.err + other.err
  answer = processes.run(
    "generate", f"--workdir={run}", "--prompt=red", "--format=json"
  )
  x_D = np.array(json.loads(answer.out)["embedding"])
  expected = embed(*lm.load(run), ["red"], pooling="mean")
  np.testing.assert_allclose(x_D, expected[0], atol=1e-5)
