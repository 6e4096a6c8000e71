"""Classes by the words that a decoder scores: as lm.score has them, and trained."""

import json

import numpy as np
import processes
import pytest
from test_classify import MODELS, SIZES, WORDS
from test_classify import table as texts

import lm
from lm.data import tokenizers
from lm.generate.score import score
from lm.tasks.words import Task


def flags(folder, **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{field}" for field in (*MODELS["decoder"], *SIZES)]
  changes += ["data.tokenizer=bpe-300", f"data.cache={folder / 'cache'}", "seq=64"]
  changes += ["init.path=", "task.labels=()", "task.words=()", "optim.lr=1e-2"]
  changes += ["optim.warmup=5", "eval.every=0", "task.prompt={text} is"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/words.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


def test_it_learns_and_every_verb_reads_the_task(tmp_path):
  run = tmp_path / "run"
  options = flags(tmp_path, task__train=texts(tmp_path), num_steps=150)
  trained = processes.run("train", *options)
  assert trained.code == 0, trained.err
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  assert json.loads(scored.out)["accuracy"] > 0.95
  for word in ("red", "blue"):
    answer = processes.run("generate", f"--workdir={run}", f"--prompt=a {word} b 7")
    assert answer.out.startswith(f"{WORDS[word]} "), answer.err
  # Any decoder is scored in the same way, without training.
  model, params, tokenizer = lm.load(run)
  lm.save(tmp_path / "plain", model, params, tokenizer)
  other = [f"--workdir={tmp_path / 'plain'}", *options[:1], *options[2:]]
  assert json.loads(processes.run("evaluate", *other).out)["accuracy"] > 0.95
  task = Task(train="", labels=("x", "y"), words=(" warm", " cold"), prompt="{text} is")
  [answer] = task.answers(model, params, tokenizer, [{"text": "a b"}], seq=64)
  pairs = [("a b is", " warm"), ("a b is", " cold")]
  logprob_C = np.array([x.logprob for x in score(model, params, tokenizer, pairs)])
  expected_C = np.exp(logprob_C) / np.exp(logprob_C).sum()
  assert list(answer["probabilities"].values()) == pytest.approx(expected_C)


def test_only_the_words_count_in_the_loss():
  tokenizer = tokenizers.byte_tokenizer()
  words = dict(labels=("w", "c"), words=(" warm", " cold"), prompt="{text} is")
  task = Task(train="", **words)
  rows = task.rows([{"text": "red red", "label": "c"}], tokenizer, seq=32)
  row = rows[0]
  assert tokenizer.decode(row["targets_T"][row["weights_T"] > 0]) == " cold"
  assert tokenizer.decode(row["tokens_T"][:10]) == "red red is" and not rows.num_cut
  rows = task.rows([{"text": "red" * 40 + "x", "label": "c"}], tokenizer, seq=32)
  assert tokenizer.decode(rows[0]["tokens_T"]).endswith("redx is col")
  assert rows.num_cut == 1


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(task__words="('a', 'b')"), "task.words=('a', 'b') for the classes cold, non"),
    (
      dict(task__words="('a', 'a')"),
      "task.words=('a', 'a'); wanted other words for ea",
    ),
    (dict(task__prompt="It is"), "task.prompt='It is'; wanted {text} in it"),
  ],
)
def test_words_that_do_not_fit(values, message, tmp_path):
  options = flags(tmp_path, task__train=texts(tmp_path, 60), **values)
  assert processes.refused("train", *options).startswith(message)
