"""Translation and summarisation by every verb, and what is refused."""

import json
import random
import re

import processes
import pytest

from lm.data import examples
from lm.scores import texts
from lm.tasks.summarise import Task as Summarise
from lm.tasks.translate import Task as Translate

WORDS = {"A": "sun", "B": "tea", "C": "moon", "D": "rain"}
MODELS = {
  "encdec": ["family=encdec", "heads=2", "ff=96", "divided=True", "unit_table=False"],
  "decoder": ["family=decoder", "heads=2", "ff=96"],
  "seq2seq": ["family=seq2seq"],
  "encoder": ["family=encoder", "heads=2"],
}
SIZES = ["width=48", "layers=1", "scan=False"]


def table(folder, total=300, seed=0):
  """Writes texts with one capital letter, and its word; returns the table's name."""
  draw, rows = random.Random(seed), []
  for number in range(total):
    letters = draw.choices("efgh", k=draw.randrange(2, 6))
    letter = draw.choice(list(WORDS))
    letters.insert(draw.randrange(len(letters)), letter)
    rows.append(dict(source=" ".join(letters), target=WORDS[letter], group=number))
  file = folder / "pairs.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def flags(folder, model="encdec", task="translate", **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{field}" for field in (*MODELS[model], *SIZES)]
  changes += ["data.tokenizer=bytes", f"data.cache={folder / 'cache'}", "seq=32"]
  changes += [f"task.name={task}", "task.max_tokens=8", "batch=16"]
  changes += ["optim.lr=1e-2", "optim.warmup=5", "eval.every=0"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/classify.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


@pytest.mark.parametrize("model", ["encdec", "decoder"])
def test_it_learns_and_every_verb_reads_the_task(model, tmp_path):
  run, values = tmp_path / "run", dict(task__train=table(tmp_path), num_steps=100)
  trained = processes.run("train", *flags(tmp_path, model, **values))
  assert trained.code == 0, trained.err
  stored = json.loads((run / "config.json").read_text())["task"]
  assert stored["encoder"] == (model != "decoder")
  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["chrf"] > 90 > scores["dictionary_chrf"] > scores["copy_chrf"]
  assert scores["chrf_95"][0] <= scores["chrf"] <= scores["chrf_95"][1]
  assert "tok:13a" in scores["bleu_signature"] and scores["bleu"] == 0  # single words
  answer = processes.run("generate", f"--workdir={run}", "--prompt=e C f")
  assert (answer.code, answer.err, answer.out) == (0, "", "moon\n")
  answer = processes.run(
    "generate", f"--workdir={run}", '--prompt={"source": "e B"}', "--format=json"
  )
  assert json.loads(answer.out)["text"] == "tea"


def test_a_family_that_keeps_no_texts_apart_gets_one_a_row(tmp_path):
  values = dict(task__train=table(tmp_path, 60), num_steps=2)
  trained = processes.run("train", *flags(tmp_path, "seq2seq", **values))
  assert trained.code == 0, trained.err
  assert re.search(r"train: (\d+) records in \1 rows", trained.out)
  scored = processes.run("evaluate", f"--workdir={tmp_path / 'run'}")
  assert scored.code == 0, scored.err
  assert 0 <= json.loads(scored.out)["chrf"] <= 100


def test_summaries_are_scored_beside_leads(tmp_path):
  values = dict(task__train=table(tmp_path), num_steps=2, task__summary="target")
  values |= dict(task__text="source", task__targets=16)
  trained = processes.run("train", *flags(tmp_path, task="summarise", **values))
  assert trained.code == 0, trained.err
  scored = processes.run("evaluate", f"--workdir={tmp_path / 'run'}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["rouge_words"] == "ascii, stemmed"
  for name in texts.ROUGE:
    assert scores[f"{name}_95"][0] <= scores[name] <= scores[f"{name}_95"][1]
    assert scores[f"lead_1_{name}"] == 0
    assert any(key.startswith("first_") and key.endswith(name) for key in scores)


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(model="encoder"), "the model's family writes none; wanted a decoder"),
    (dict(task__tokenize="mecab"), "no task.tokenize 'mecab'; found: 13a, intl, zh"),
    (
      dict(task__source="english"),
      "has no column 'english'; found: 'source', 'target'",
    ),
    (dict(task__max_tokens=40), "task.max_tokens=40, and a row has room for 32; make"),
    (dict(data__corrupt__name="spans"), "a task makes its own rows; leave it out"),
  ],
)
def test_what_does_not_fit_is_one_line(values, message, tmp_path):
  given = dict(task__train=table(tmp_path, 30)) | values
  line = processes.refused("train", *flags(tmp_path, **given))
  assert message in line
  assert not (tmp_path / "run").exists()


def test_records_of_a_group_are_held_out_together(tmp_path):
  file = tmp_path / "a.jsonl"
  rows = [dict(source=f"text {i}", target="x", group=i // 4) for i in range(200)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  splits = examples.read(Translate(train=f"jsonl:{file}"), cache=tmp_path)
  train, heldout = (
    {r["group"] for r in part} for part in (splits.train, splits.heldout)
  )
  assert heldout and train and not train & heldout


def test_scripts_that_a_score_would_not_see_are_told(tmp_path):
  file = tmp_path / "a.jsonl"
  rows = [dict(source=f"cat {i}", target=f"猫 {i}") for i in range(60)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  given = dict(train=f"jsonl:{file}")
  splits = examples.read(Translate(**given), cache=tmp_path)
  assert "set task.tokenize=zh" in Translate(**given).notes(splits)[0]
  assert Translate(**given, tokenize="zh").notes(splits) == []
  given |= dict(text="source", summary="target")
  splits = examples.read(Summarise(**given), cache=tmp_path)
  assert "set task.words=unicode" in Summarise(**given).notes(splits)[0]
  answers = [{"text": "猫"}] * len(splits.heldout)
  assert Summarise(**given).score(answers, splits.heldout)["rouge1"] == 0
  scores = Summarise(**given, words="unicode").score(answers, splits.heldout)
  assert scores["rouge1"] > 0.6 and scores["rouge_words"] == "unicode"
