"""Language models that learn from another one, by every verb."""

import json

import processes
import pytest


@pytest.fixture(scope="module")
def language(tmp_path_factory):
  """Returns (folder, text): a language model in folder/teacher, and what it read."""
  folder = tmp_path_factory.mktemp("language")
  text = processes.corpus(folder)
  values = dict(num_steps=30, optim__lr=1e-2)
  run = processes.run("train", *processes.flags(folder / "teacher", text, **values))
  assert run.code == 0, run.err
  return folder, text


def distilled(language, workdir, **values):
  """Returns the flags of a run that learns from the language model."""
  folder, text = language
  values = dict(objective="distill", teacher=folder / "teacher", num_steps=4) | values
  return processes.flags(folder / workdir, text, **values)


def test_a_language_model_learns_every_token_of_a_teacher_on_any_mesh(language):
  """The teacher is sharded as the student is, and read again when a run goes on."""
  folder, _ = language
  one = processes.run("train", *distilled(language, "one"))
  assert one.code == 0, one.err
  last = processes.metrics(folder / "one")[-1]
  assert last["eval/divergence"] > 0 and "eval/bits_per_byte" in last
  flags = distilled(language, "four", mesh__fsdp=2, num_steps=2)
  four = processes.run("train", *flags, devices=4)
  assert four.code == 0, four.err
  rows = [processes.metrics(folder / run)[:2] for run in ("one", "four")]
  for a, b in zip(*rows, strict=True):
    for name in ("train/loss", "train/divergence"):
      assert a[name] == pytest.approx(b[name], rel=1e-3)
  manifest = (folder / "four" / "manifest.txt").read_text()
  [line] = [x for x in manifest.splitlines() if "embed/table_VD" in x]
  assert line.startswith("given/teacher/") and "'fsdp'" in line
  more = processes.run("train", *distilled(language, "four"), devices=1)
  assert more.code == 0, more.err
  scored = processes.run("evaluate", f"--workdir={folder / 'one'}")
  assert scored.code == 0, scored.err
  assert json.loads(scored.out)["eval/divergence"] > 0


def test_a_student_of_another_family_takes_the_tokens_of_its_teacher(language):
  folder, text = language
  config = folder / "rnn.py"
  config.write_text(
    "from ml_collections import ConfigDict\n\n\ndef get_config():\n"
    "  cfg = ConfigDict(dict(num_steps=2, batch=4, seq=16, objective='distill'))\n"
    "  cfg.model = dict(family='rnn', width=16, layers=1)\n"
    f"  cfg.data = dict(source='text:{text}', cache='{folder / 'cache'}')\n"
    "  cfg.teacher = 'none'\n"
    "  return cfg\n"
  )
  options = [f"--config={config}", f"--config.teacher={folder / 'teacher'}"]
  run = processes.run("train", *options, f"--workdir={folder / 'rnn'}")
  assert run.code == 0, run.err
  stored = json.loads((folder / "rnn" / "config.json").read_text())
  assert stored["data"]["tokenizer"] == str(folder / "teacher" / "tokenizer")


def test_a_teacher_with_other_tokens_is_refused_before_data_are_prepared(language):
  folder, _ = language
  flags = distilled(language, "x", data__tokenizer="bpe-300")
  line = processes.refused("train", *flags)
  assert "teacher" in line and "was trained with another tokenizer than" in line
  assert not (folder / "x").exists()


def test_what_a_teacher_writes_is_text_to_train_on(language):
  """Distillation of sequences: the command of docs/tasks.md."""
  folder, _ = language
  options = ["--n=8", "--max_tokens=40", "--format=json", "--prompt="]
  written = processes.run("generate", f"--workdir={folder / 'teacher'}", *options)
  assert written.code == 0, written.err
  (folder / "written.jsonl").write_text(written.out)
  values = {"data__source": f"jsonl:{folder / 'written.jsonl'}", "num_steps": 2}
  flags = processes.flags(folder / "student", folder / "corpus.txt", **values)
  run = processes.run("train", *flags)
  assert run.code == 0, run.err
