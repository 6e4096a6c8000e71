"""Chat tuning by every verb: rows of answers, their score, what is refused."""

import json
import random

import chats
import jax
import numpy as np
import processes
import pytest

from lm import letters, models
from lm.data import tokenizers
from lm.tasks.chat import Task

WORDS = {"red": "warm", "blue": "cold", "grey": "none"}


def table(folder, total=200, seed=0):
  """Writes conversations of one or two questions; returns the table's name."""
  draw, rows = random.Random(seed), []
  for number in range(total):
    messages = []
    for _ in range(draw.randrange(1, 3)):
      word = draw.choice(list(WORDS))
      messages.append(dict(role="user", content=f"{number % 7} {word}"))
      messages.append(dict(role="assistant", content=WORDS[word]))
    rows.append(dict(messages=messages, group=number))
  file = folder / "chats.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def flags(folder, **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = ["model.family=decoder", "model.heads=2", "model.width=48"]
  changes += ["model.layers=1", "init.path=", "seq=64", "batch=8"]
  changes += [f"data.cache={folder / 'cache'}", "optim.lr=1e-2", "optim.warmup=5"]
  changes += ["task.answered=4", "task.max_tokens=8"]
  values = dict(data__tokenizer=chats.tokenizer(folder)) | values
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/chat.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


def test_rows_count_answers_and_their_ends(tmp_path):
  tokenizer = tokenizers.load(chats.tokenizer(tmp_path))
  task = Task(train="").fitted(models.traits("decoder"))
  turns = [("user", "a b"), ("assistant", "cd"), ("user", "e"), ("assistant", "")]
  short = [dict(role=role, content=text) for role, text in turns]
  records = [dict(messages=short), dict(messages=short[:1]), dict(messages=short[:2])]
  assert len(task.notes(type("", (), dict(train=records, heldout=records[2:])))) == 1
  rows = task.rows(records, tokenizer, seq=64)
  assert len(rows) == 1 and rows.num_cut == 0
  row, eos = rows[0], tokenizer.eos
  assert set(row) == {"tokens_T", "targets_T", "weights_T", "segments_T"}
  first = row["targets_T"][(row["weights_T"] > 0) & (row["segments_T"] == 1)]
  assert first.tolist() == [*b"cd", eos, eos]
  own = row["segments_T"] == 1
  assert row["tokens_T"][own][1:].tolist() == row["targets_T"][own][:-1].tolist()
  # The second answer does not begin within these positions.
  rows = task.rows(records[:1], tokenizer, seq=6)
  assert rows.num_cut == 1 and rows[0]["weights_T"].tolist() == [0, 0, 0, 1, 1, 1]


def test_it_learns_and_is_used_as_a_chat_model(tmp_path):
  run = tmp_path / "run"
  values = dict(task__train=table(tmp_path), num_steps=80)
  trained = processes.run("train", *flags(tmp_path, **values))
  assert trained.code == 0, trained.err
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["nats_per_answer_token"] == pytest.approx(
    scores["eval/nats_per_token"], rel=1e-4
  )
  low, high = scores["nats_per_answer_token_95"]
  assert low <= scores["nats_per_answer_token"] <= high
  assert scores["nats_per_answer_token"] < 0.5
  assert (scores["ended"], scores["ended_of"]) == (1, 4)
  options = ("--temperature=0", "--max_tokens=8")
  answer = processes.run("generate", f"--workdir={run}", "--prompt=3 blue", *options)
  assert (answer.code, answer.out) == (0, "cold\n"), answer.err


def test_the_nats_of_a_record_are_those_of_its_tokens(tmp_path):
  tokenizer = tokenizers.load(chats.tokenizer(tmp_path))
  model = models.build("decoder", vocab=tokenizer.size, width=16, layers=1, heads=2)
  params = letters.unbox(model.init(jax.random.key(0), np.ones((1, 4), np.int32)))
  turn = [dict(role="user", content="ab"), dict(role="assistant", content="cd")]
  records = [dict(messages=turn), dict(messages=turn[:1]), dict(messages=turn * 2)]
  task = Task(train="", answered=1, max_tokens=4)
  answers = task.answers(model, params["params"], tokenizer, records, seq=32)
  ids = np.array([[*b"ab", tokenizer.eos, *b"cd", tokenizer.eos]])
  logits_BTV, _ = model.apply(params, ids[:, :-1])
  logits_TV = np.array(logits_BTV[0, 2:], np.float64)
  nll = np.log(np.exp(logits_TV).sum(-1)) - logits_TV[np.arange(3), ids[0, 3:]]
  assert answers[0]["nats"] == pytest.approx(nll.sum(), rel=1e-5)
  assert [answer["tokens"] for answer in answers] == [3, 0, 6]
  assert [set(answer) - {"nats", "tokens"} for answer in answers] == [
    {"text", "ended"},
    set(),
    set(),
  ]


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(data__tokenizer="bytes"), "has no chat template; wanted a model that chats"),
    (dict(model__family="encoder"), "wants a model that continues a text, a decoder"),
    (dict(task__messages="group"), "group=0; wanted a list of {"),
    (dict(task__answered=0), "answered=0; wanted 1 or more"),
  ],
)
def test_what_does_not_fit_is_one_line(values, message, tmp_path):
  given = dict(task__train=table(tmp_path, 40)) | values
  line = processes.refused("train", *flags(tmp_path, **given))
  assert message in line
  assert not (tmp_path / "run").exists()


def test_conversations_without_answers_are_refused(tmp_path):
  file = tmp_path / "a.jsonl"
  rows = [dict(messages=[dict(role="user", content=f"{i}")]) for i in range(60)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  line = processes.refused("train", *flags(tmp_path, task__train=f"jsonl:{file}"))
  assert "has a message of 'assistant'; wanted answers to learn to write" in line
