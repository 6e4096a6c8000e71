"""Every verb has a pulse: help that reads well, a word on what it needs, its work."""

import json
import re

import processes
import pytest

VERBS = sorted(
  path.stem
  for path in (processes.ROOT / "experiments").glob("*.py")
  if "__main__" in path.read_text()
)
each_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
  """A run of two steps, in an interpreter of its own, and what it said."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  values = dict(eval__every=1, eval__sample_tokens=5)
  return folder, processes.fresh("train", *processes.flags(folder, text, **values))


@each_verb
def test_help_reads_well(verb):
  done = processes.run(verb, "--help")
  assert (done.code, done.err) == (0, "")
  assert re.match(r"[A-Z][^\n]*\.\n", done.out), "begin with a sentence of one line"
  assert f"./launch.sh {verb} --" in done.out, "show a command"
  told = re.findall(r"^  --(?:\[no\])?(\w+): \S", done.out, re.M)
  assert told, "every flag has a word about it"
  for flag in told:
    assert re.fullmatch("[a-z][a-z_]*", flag)


@each_verb
def test_a_flag_it_needs_is_named(verb):
  done = processes.run(verb)
  assert done.code == 2 and done.out == ""
  assert re.fullmatch(r"error: --(config|workdirs?|from) is missing: .+\n", done.err)


def test_train(trained):
  folder, done = trained
  assert done.code == 0, done.err
  assert f"next: ./launch.sh generate --workdir={folder}" in done.out
  assert [row["step"] for row in processes.metrics(folder)] == [1, 1, 2, 2]
  names = "config.json versions.json manifest.txt samples.txt curves.png tokenizer"
  for name in [*names.split(), "tensorboard", "checkpoints/2"]:
    assert (folder / name).exists(), name
  assert re.match(r"step 1/2  loss ", done.err)
  samples = (folder / "samples.txt").read_text(encoding="utf-8", errors="replace")
  assert samples.count("--- step ") == 2


def test_train_says_when_it_is_finished_and_goes_on_when_asked(trained, text):
  folder, _ = trained
  values = dict(eval__every=1, eval__sample_tokens=5)
  before = (folder / "metrics.jsonl").read_bytes()
  done = processes.run("train", *processes.flags(folder, text, **values))
  assert (done.code, done.err) == (0, "")
  assert "is finished; --config.num_steps=N goes on" in done.out
  assert "next: ./launch.sh generate" in done.out
  assert (folder / "metrics.jsonl").read_bytes() == before
  more = processes.run("train", *processes.flags(folder, text, **values, num_steps=3))
  assert more.code == 0 and "goes on after step 2" in more.out
  assert [row["step"] for row in processes.metrics(folder)] == [1, 1, 2, 2, 3, 3]
  samples = (folder / "samples.txt").read_text(encoding="utf-8", errors="replace")
  assert samples.count("--- step ") == 3


def test_a_sample_is_as_long_as_the_context_lets_it(text, tmp_path):
  values = dict(eval__sample_tokens=999, num_steps=1)
  done = processes.run("train", *processes.flags(tmp_path / "run", text, **values))
  assert done.code == 0, done.err
  assert (tmp_path / "run" / "samples.txt").read_bytes().startswith(b"--- step 1\n")


def test_a_checkpoint_does_not_wait_for_a_sample(text, tmp_path):
  values = dict(eval__sample_tokens=5, num_steps=1)
  flags = processes.flags(tmp_path / "run", text, **values)
  assert processes.run("train", *flags, spy=("fail_to_sample", None)).code == 1
  assert (tmp_path / "run" / "checkpoints" / "1").exists()


def test_evaluate(trained):
  folder, _ = trained
  done = processes.run("evaluate", f"--workdir={folder}", "--step=2")
  assert done.code == 0, done.err
  found = json.loads(done.out)
  assert 0 < found["eval/bits_per_byte"] < 10
  assert re.match(r"step 1/\d+\n", done.err)  # how far it is, without a terminal


def test_report(trained, tmp_path):
  folder, _ = trained
  done = processes.run(
    "report", f"--workdirs={folder},{folder}", f"--out={tmp_path}/v1.2"
  )
  assert done.code == 0, done.err
  score = processes.metrics(folder)[-1]["eval/bits_per_byte"]
  assert done.out.count(f"{score:.3f} bits per byte") == 2
  assert (tmp_path / "v1.2.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
  assert (tmp_path / "v1.2.md").read_text() in done.out
  gone = processes.run("report", f"--workdirs={tmp_path}/no")
  assert gone.code == 2 and "is not a run's folder" in gone.err


def test_prepare(text, tmp_path):
  flags = processes.flags("", text, data__cache=tmp_path / "cache")
  flags = [flag for flag in flags if not flag.startswith("--workdir")]
  done = processes.run("prepare", *flags)
  assert done.code == 0, done.err
  assert "\nheldout: " in done.out and " bytes per token" in done.out
  assert f"data: {tmp_path}" in done.out
  assert done.out.endswith("next: ./launch.sh train --config=tests/shrink.py\n")


def test_generate(trained):
  folder, _ = trained
  done = processes.run(
    "generate", f"--workdir={folder}", "--prompt=the quick", "--max_tokens=8"
  )
  assert done.code == 0, done.err
  assert done.out.startswith("the quick")


@pytest.mark.parametrize(
  "flag, told",
  [
    ("--seed=99999999999999999999", "not an integer in the range [0, 4294967295]"),
    ("--top_k=99999999999", "top_k must be 0 (off) to 2**31 - 1, got 9999"),
  ],
)
def test_numbers_beyond_all_reason(trained, flag, told):
  assert told in processes.refused("generate", f"--workdir={trained[0]}", flag)


def test_evaluate_takes_no_empty_batch(trained, text):
  flags = [*processes.flags(trained[0], text), "--config.batch=0"]
  assert processes.refused("evaluate", *flags) == "batch=0; wanted 1 or more"
