"""Classification by every verb: trained, resumed, scored, asked; what is refused."""

import json
import random

import numpy as np
import processes
import pytest

import lm

WORDS = {
  "red": "warm",
  "blue": "cold",
  "orange": "warm",
  "green": "cold",
  "grey": "none",
}
MODELS = {
  "encoder": ["family=encoder", "positions=rotary", "pooler=True", "heads=2"],
  "decoder": ["family=decoder", "heads=2"],
  "rnn": ["family=rnn"],
}
SIZES = ["width=32", "layers=1", "scan=False"]


def table(folder, total=400, seed=0):
  """Writes texts whose class is that of one word in them; returns the table's name."""
  draw, rows = random.Random(seed), []
  for number in range(total):
    word = draw.choice(list(WORDS))
    others = draw.choices("abcdefgh", k=draw.randrange(2, 9))
    others.insert(draw.randrange(len(others)), word)
    rows.append({"text": " ".join([*others, str(number)]), "label": WORDS[word]})
  file = folder / "texts.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def flags(folder, model="encoder", **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{field}" for field in (*MODELS[model], *SIZES)]
  changes += ["data.tokenizer=words-64", f"data.cache={folder / 'cache'}", "seq=32"]
  changes += ["optim.lr=1e-2", "optim.warmup=5", "eval.every=0"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/classify.py",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_and_every_verb_reads_the_task(model, tmp_path):
  run = tmp_path / "run"
  values = dict(task__train=table(tmp_path), num_steps=60)
  trained = processes.run("train", *flags(tmp_path, model, **values))
  assert trained.code == 0, trained.err
  assert "train: 3" in trained.out and "% are padding" in trained.out
  assert f"generate --workdir={run} --prompt='A text of yours.'" in trained.out
  stored = json.loads((run / "config.json").read_text())
  assert stored["task"]["labels"] == ["cold", "none", "warm"]
  assert stored["model"]["classes"] == 3

  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["accuracy"] == scores["macro_f1"] == scores["eval/accuracy"] == 1
  assert scores["accuracy_95"][0] < 1 == scores["accuracy_95"][1]
  assert scores["overlap_8_grams"] == 0

  for text, label in (("a b orange c", "warm"), ("green", "cold"), ("h grey", "none")):
    answer = processes.run("generate", f"--workdir={run}", f"--prompt={text}")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{label} 0.")
  answer = processes.run(
    "generate", f"--workdir={run}", "--prompt=red", "--format=json"
  )
  values = json.loads(answer.out)
  assert values["label"] == "warm" and list(values["probabilities"]) == [
    "cold",
    "none",
    "warm",
  ]
  assert sum(values["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
  values = dict(task__train=table(tmp_path), num_steps=12, checkpoint__every=4)
  whole, parts = (flags(tmp_path, **values) for _ in range(2))
  parts[1] = f"--workdir={tmp_path / 'parts'}"
  assert processes.run("train", *whole).code == 0
  run = processes.start("train", *parts)
  run.until((tmp_path / "parts" / "checkpoints" / "4").exists).kill()
  assert processes.run("train", *parts).code == 0
  processes.assert_same_bits(tmp_path / "run", tmp_path / "parts", 12)


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(), "task.train is missing; give --config.task.train=..."),
    (dict(task__train="csv:none.csv"), "no file none.csv; wanted csv:PATH of one"),
    (dict(task__train="xls:a"), "no table 'xls:a'; found: "),
    (
      dict(task__train="TABLE", task__label="stars"),
      "has no column 'stars'; found: 'text', 'label'",
    ),
    (
      dict(task__train="TABLE", task__labels="('cold', 'warm')"),
      "label='none' in split 'train' is none of the classes cold, warm; name all",
    ),
    (
      dict(task__train="TABLE", task__labels="('cold', 'cold')"),
      "task.labels=('cold', 'cold'); wanted two classes or more, each once",
    ),
    (
      dict(task__train="TABLE", data__source="shakespeare"),
      "the config has both data.source and task.name; wanted one",
    ),
    (
      dict(task__train="TABLE", eval__sample_tokens=9),
      "eval.sample_tokens=9, and family 'encoder' with head='classes' writes no text",
    ),
    (dict(task__train="TABLE", task__name="sort"), "no 'sort' in lm/tasks; found: "),
    (
      dict(task__train="TABLE", task__name="similarity"),
      "task 'similarity' has nothing to train; it is for evaluate --tasks",
    ),
  ],
)
def test_what_does_not_fit_is_one_line(values, message, tmp_path):
  if values.get("task__train") == "TABLE":
    values = values | dict(task__train=table(tmp_path, 30))
  line = processes.refused("train", *flags(tmp_path, **values))
  assert message in line
  assert not (tmp_path / "run").exists()


def test_too_few_records_to_hold_any_out(tmp_path):
  line = processes.refused("train", *flags(tmp_path, task__train=table(tmp_path, 2)))
  assert "no record is left in split" in line and "--config.task.heldout=TABLE" in line


def test_a_split_without_a_class_is_told(tmp_path):
  name, heldout = table(tmp_path, 60), tmp_path / "heldout.csv"
  heldout.write_text("text,label\na red b,warm\nblue,cold\n")
  values = dict(task__train=name, task__heldout=f"csv:{heldout}", num_steps=1)
  trained = processes.run("train", *flags(tmp_path, **values))
  assert trained.code == 0, trained.err
  assert "warning: heldout has no record of none\n" in trained.out
  assert "heldout: 2 records in 1 rows" in trained.out


def test_a_line_that_is_no_json_is_told_by_its_number(tmp_path):
  name = table(tmp_path, 30)
  with (tmp_path / "texts.jsonl").open("a") as file:
    file.write("{'text': 1}\n")
  line = processes.refused("train", *flags(tmp_path, task__train=name))
  assert "texts.jsonl line 31 is not JSON" in line


def test_transformers_has_the_same_classes_and_logits(tmp_path):
  import torch
  import transformers

  run, folder = tmp_path / "run", tmp_path / "hf"
  values = dict(task__train=table(tmp_path), num_steps=4, model__positions="learned")
  trained = processes.run("train", *flags(tmp_path, model__context=64, **values))
  assert trained.code == 0, trained.err
  assert processes.run("convert", f"--from={run}", f"--to={folder}").code == 0
  peer = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
  assert peer.config.id2label == {0: "cold", 1: "none", 2: "warm"}
  model, params, tokenizer = lm.load(run)
  ids = np.array([tokenizer.prompt("a red b c")])
  logits_BC, _ = model.apply({"params": params}, ids)
  with torch.no_grad():
    expected = peer.eval()(torch.tensor(ids, dtype=torch.int64)).logits
  np.testing.assert_allclose(logits_BC, expected, atol=2e-5)
  for path in (run, folder):
    answer = processes.run("generate", f"--workdir={path}", "--prompt=a red b c")
    label = ["cold", "none", "warm"][int(np.argmax(logits_BC))]
    assert answer.out.startswith(f"{label} 0."), answer.err
