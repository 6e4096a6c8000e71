"""Preference by every verb: DPO from a reference, rewards, what is refused."""

import json
import math
import random

import jax
import numpy as np
import processes
import pytest

import lm
from lm import models
from lm.data import tokenizers
from lm.generate import chat
from lm.letters import unbox
from lm.tasks import prefer, reward

TOKENIZER = tokenizers.byte_tokenizer()
SIZES = ["width=32", "layers=1", "scan=False"]


def pairs(folder, total=160, seed=0):
  """Writes pairs of which the answer with an "x" is chosen; returns their table."""
  draw, rows = random.Random(seed), []
  for number in range(total):
    words = ["".join(draw.choices("abcd", k=draw.randrange(2, 6))) for _ in range(2)]
    place = draw.randrange(len(words[0]))
    chosen = words[0][:place] + "x" + words[0][place:]
    row = {"prompt": f"word {number}: ", "chosen": chosen, "rejected": words[1]}
    rows.append(row | {"gap": 0.5})
  file = folder / "pairs.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def start(folder, family="decoder", tokenizer=TOKENIZER, **fields):
  """Saves a model that nobody trained, and returns its path."""
  sizes = dict(width=32, layers=1, scan=False) | fields
  sizes |= dict(heads=2) if family == "decoder" else {}
  model = models.build(family, vocab=tokenizer.size, **sizes)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  lm.save(folder, model, params, tokenizer)
  return folder


def flags(folder, kind="dpo", **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = dict(task__train=pairs(folder), task__group="prompt", seq=64, batch=8)
  changes |= dict(optim__lr=1e-2, optim__warmup=5, data__cache=folder / "cache")
  changes |= values
  return [
    f"--config=configs/tasks/prefer.py:{kind}",
    f"--workdir={folder / 'run'}",
    *(f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()),
  ]


@pytest.mark.parametrize("family", ["decoder", "rnn"])
def test_a_policy_learns_what_was_chosen(family, tmp_path):
  run, path = tmp_path / "run", start(tmp_path / "start", family)
  trained = processes.run(
    "train", *flags(tmp_path, init__path=path, num_steps=30, loss__beta=0.5)
  )
  assert trained.code == 0, trained.err
  first, *_, last = processes.metrics(run)
  # The policy is its reference, but for rounding: two programs compute them.
  assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
  assert abs(first["train/margin"]) < 1e-5
  assert last["eval/accuracy"] > 0.9 and last["eval/margin"] > 0.5
  assert last["eval/chosen_tokens"] == last["eval/rejected_tokens"] + 1 or (
    2 < last["eval/rejected_tokens"] < last["eval/chosen_tokens"] < 8
  )

  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["accuracy"] == pytest.approx(scores["eval/accuracy"])
  assert scores["accuracy_95"][0] < scores["accuracy"]
  assert scores["margin_nats"] * 0.5 == pytest.approx(scores["eval/margin"], rel=1e-4)
  assert scores["likelier_per_token"] > scores["teacher"]["likelier_per_token"]
  assert scores["left_out"] == 0

  written = processes.run("generate", f"--workdir={run}", "--prompt=word", "--seed=1")
  assert written.code == 0 and written.out.startswith("word"), written.err


def test_a_killed_run_computes_its_reference_again_to_the_same_bits(tmp_path):
  path = start(tmp_path / "start")
  values = dict(init__path=path, num_steps=9, checkpoint__every=3)
  whole, parts = (flags(tmp_path, **values) for _ in range(2))
  parts[1] = f"--workdir={tmp_path / 'parts'}"
  assert processes.run("train", *whole).code == 0
  run = processes.start("train", *parts)
  run.until((tmp_path / "parts" / "checkpoints" / "3").exists).kill()
  assert processes.run("train", *parts).code == 0
  processes.assert_same_bits(tmp_path / "run", tmp_path / "parts", 9)


def test_a_short_run_computes_the_reference_of_what_it_reads(tmp_path):
  """Three steps of three rows: the pairs behind them are not read, and not computed."""
  options = flags(tmp_path, init__path=start(tmp_path / "start"), num_steps=3, batch=3)
  run = processes.run("train", *options)
  assert run.code == 0, run.err
  rows = processes.metrics(tmp_path / "run")
  assert rows[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
  assert all(math.isfinite(row.get("train/loss", 0)) for row in rows)
  more = processes.run("train", *options, "--config.num_steps=40")
  assert more.code == 0, more.err


def test_on_several_devices_the_reference_is_the_same(tmp_path):
  path = start(tmp_path / "start")
  options = flags(tmp_path, init__path=path, num_steps=2)
  one = processes.run("train", *options)
  options[1] = f"--workdir={tmp_path / 'four'}"
  four = processes.run("train", *options, "--config.mesh.fsdp=2", devices=4)
  assert one.code == four.code == 0, one.err + four.err
  for a, b in zip(
    processes.metrics(tmp_path / "run"),
    processes.metrics(tmp_path / "four"),
    strict=True,
  ):
    for name in ("train/loss", "train/margin", "eval/loss", "eval/margin"):
      assert a.get(name, 0) == pytest.approx(b.get(name, 0), abs=2e-5)


def test_without_a_reference(tmp_path):
  values = dict(init__path=start(tmp_path / "start"), num_steps=30)
  values |= dict(loss__loss="simpo", loss__beta=2.0)
  trained = processes.run("train", *flags(tmp_path, **values))
  assert trained.code == 0, trained.err
  assert processes.metrics(tmp_path / "run")[-1]["eval/accuracy"] > 0.9
  scored = processes.run("evaluate", f"--workdir={tmp_path / 'run'}")
  scores = json.loads(scored.out)
  assert scores["likelier_per_token"] == pytest.approx(scores["eval/accuracy"])
  assert "teacher" not in scores


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_a_reward_model_learns_what_was_chosen(family, tmp_path):
  run = tmp_path / "run"
  values = {"init__path": "", "model__family": family, "data__tokenizer": "bytes"}
  values |= dict(model__width=32, model__layers=1, model__heads=2, num_steps=80)
  if family == "encoder":
    values |= dict(model__positions="rotary", model__pooler=True)
  trained = processes.run(
    "train", *flags(tmp_path, "reward", **values, task__margin="gap")
  )
  assert trained.code == 0, trained.err
  assert json.loads((run / "config.json").read_text())["model"]["classes"] == 1
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["accuracy"] == pytest.approx(scores["eval/accuracy"])
  assert scores["accuracy"] > 0.9
  assert scores["margin_95"][0] < scores["margin"] < scores["margin_95"][1]

  rewards = []
  for answer in ("abxcd", "abcd"):
    prompt = json.dumps({"prompt": "word 7:", "chosen": f" {answer}"})
    shown = processes.run(
      "generate", f"--workdir={run}", f"--prompt={prompt}", "--format=json"
    )
    assert (shown.code, shown.err) == (0, "")
    rewards.append(json.loads(shown.out)["chosen"])
  assert rewards[0] > rewards[1]
  shown = processes.run("generate", f"--workdir={run}", "--prompt=word 7: abxcd")
  assert shown.out.startswith("reward ") and shown.out.count("\n") == 1


def rows_of(records, task=None, seq=64):
  return (task or prefer.Task(train="")).rows(records, TOKENIZER, seq=seq)


def test_both_answers_are_in_one_row_with_their_prompt_and_their_end():
  record = {"prompt": "ask: ", "chosen": "yes", "rejected": "no!!"}
  rows = rows_of([record, record])
  [row], eos = [rows[0]], TOKENIZER.eos
  assert len(rows) == 1 and row["example_P"][:2].tolist() == [0, 1]
  for segment, answer in enumerate((" yes", " no!!", " yes", " no!!"), 1):
    is_side = row["segments_T"] == segment
    whole = [*TOKENIZER.prompt(f"ask:{answer}"), eos]
    assert row["tokens_T"][is_side].tolist() == whole[:-1]
    assert row["targets_T"][is_side].tolist() == whole[1:]
    weights = row["weights_T"][is_side]
    assert weights.sum() == len(answer) + 1 and weights[-len(answer) - 1 :].all()


def test_what_is_too_long_is_cut_and_a_prompt_that_fills_the_row_is_left_out():
  short = {"prompt": "a", "chosen": "b", "rejected": "c"}
  cut = {"prompt": "a", "chosen": "b" * 40, "rejected": "c"}
  full = {"prompt": "a" * 33, "chosen": "b", "rejected": "c"}
  rows = rows_of([full, short, cut])
  assert (rows.num_left_out, rows.num_cut) == (1, 1)
  assert sum(map(len, rows.members)) == 2
  task, path = prefer.Task(train=""), models.build("rnn", vocab=TOKENIZER.size, width=8)
  params = unbox(path.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  answers = task.answers(path, params, TOKENIZER, [full, short, cut], seq=64)
  assert answers[0] == {} and answers[1]["chosen_tokens"] == 2
  assert answers[2]["chosen_tokens"] == 32
  assert task.score(answers, [full, short, cut])["left_out"] == 1
  with pytest.raises(lm.errors.Mistake, match="no prompt leaves room for an answer"):
    rows_of([full])


def test_a_reward_does_not_depend_on_the_rows():
  """Pads to the right, other pairs beside it, eos as the pad: the same number."""
  task = reward.Task(train="")
  model = models.build("rnn", vocab=TOKENIZER.size, width=8, **task.fields())
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  draw = random.Random(0)
  text = lambda: "".join(draw.choices("abc", k=draw.randrange(1, 12)))
  records = [{"prompt": text(), "chosen": text(), "rejected": text()} for _ in range(9)]
  together = task.answers(model, params, TOKENIZER, records, seq=64)
  for seq in (48, 96):
    for record, answer in zip(records, together, strict=True):
      [alone] = task.answers(model, params, TOKENIZER, [record], seq=seq)
      assert alone == pytest.approx(answer, abs=1e-6)
  ids = [*TOKENIZER.prompt(records[0]["prompt"] + records[0]["chosen"]), TOKENIZER.eos]
  logits_BC, _ = model.apply({"params": params}, np.array([ids]))
  assert together[0]["chosen"] == pytest.approx(float(logits_BC[0, 0]), abs=1e-6)


TEMPLATE = (
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
  "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_messages_are_what_the_chat_template_makes_of_them():
  names = ["<|im_start|>", "<|im_end|>"]
  config = dict(TOKENIZER.extended(names)._config, chat_template=TEMPLATE)
  tokenizer = tokenizers.tokenizer.Tokenizer(TOKENIZER.extended(names)._inner, config)
  question = [{"role": "user", "content": "<|im_end|> 1 + 1?"}]
  answer = {"role": "assistant", "content": "2"}
  record = {"prompt": question, "chosen": "2", "rejected": [answer | {"content": "3"}]}
  [(prompt, answers)] = prefer.encoded([record], tokenizer)
  assert prompt.tolist() == chat.encode(tokenizer, question).tolist()
  end = tokenizer.id("<|im_end|>")
  assert [ids.tolist() for ids in answers] == [[ord("2"), end], [ord("3"), end]]
  assert prefer.Task(train="").texts(record) == [
    "<|im_end|> 1 + 1?2",
    "<|im_end|> 1 + 1?3",
  ]


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(init__path="none"), "none is not a run's folder"),
    (dict(init__path="START", teacher="none"), "none is not a run's folder"),
    (dict(init__path="START", teacher="OTHER"), "OTHER was trained with another token"),
    (dict(init__path="START", model__dropout=0.1), "dropout=0.1 makes the two differ"),
    (
      dict(init__path="START", loss__loss="simpo", teacher="START"),
      "objective 'dpo' learns from no other model; leave it out",
    ),
    (
      dict(init__path="START", task__chosen="best"),
      "has no column 'best'; found: 'prompt', 'chosen', 'rejected'",
    ),
    (dict(init__path="START", loss__beta=0.0), "loss.beta=0.0; wanted more than 0"),
    (dict(init__path="START", seq=8), "no prompt leaves room for an answer; make seq"),
    (
      dict(init__path="", model__family="rnn", data__tokenizer="bytes"),
      "objective 'dpo' learns from another model; name it: --config.teacher=MODEL",
    ),
  ],
)
def test_what_does_not_fit_is_one_line(values, message, tmp_path):
  start(tmp_path / "START")
  words = tokenizers.make("words-64", ["a b c d"])
  start(tmp_path / "OTHER", tokenizer=words)
  for name in ("init__path", "teacher"):
    if values.get(name) in ("START", "OTHER"):
      values = values | {name: tmp_path / values[name]}
  line = processes.refused("train", *flags(tmp_path, **values))
  assert message in line
  assert not (tmp_path / "run").exists()


def test_an_overlap_is_one_of_answers_and_not_of_a_prompt_that_all_share():
  task = prefer.Task(train="jsonl:pairs.jsonl")
  record = {"prompt": "A film:", "chosen": " good", "rejected": " bad"}
  assert task.distinct(record) == [" good", " bad"]
  assert task.texts(record) == ["A film: good", "A film: bad"]
