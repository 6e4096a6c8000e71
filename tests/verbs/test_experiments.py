"""Verbs: help, missing flags, and one run of each."""

import json
import re
import shlex

import processes
import pytest

VERBS = sorted(
  path.stem
  for path in (processes.ROOT / "experiments").glob("*.py")
  if "__main__" in path.read_text()
)
LAUNCHER = str(processes.ROOT / "launch.sh")
each_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
  """Returns (folder, Run) of a training of two steps in a new interpreter."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  values = dict(eval__every=1, eval__sample_tokens=5)
  return folder, processes.fresh("train", *processes.flags(folder, text, **values))


@each_verb
def test_help_reads_well(verb):
  result = processes.run(verb, "--help")
  assert (result.code, result.err) == (0, "")
  assert re.match(r"[A-Z][^\n]*\.\n", result.out), "begin with a sentence of one line"
  assert f"./launch.sh {verb} --" in result.out, "show a command"
  documented_flags = re.findall(r"^  --(?:\[no\])?(\w+): \S", result.out, re.M)
  assert documented_flags, "every flag has a word about it"
  for flag in documented_flags:
    assert re.fullmatch("[a-z][a-z_]*", flag)


@each_verb
def test_a_flag_it_needs_is_named(verb):
  result = processes.run(verb)
  assert result.code == 2 and result.out == ""
  assert re.fullmatch(r"error: --(config|workdirs?|from) is missing: .+\n", result.err)


def test_train(trained):
  folder, result = trained
  assert result.code == 0, result.err
  assert f"next: {LAUNCHER} generate --workdir={folder} --prompt=" in result.out
  assert f"next: {LAUNCHER} evaluate --workdir={folder}\n" in result.out
  assert [row["step"] for row in processes.metrics(folder)] == [1, 1, 2, 2]
  names = "config.json versions.json manifest.txt samples.txt curves.png tokenizer"
  for name in [*names.split(), "tensorboard", "checkpoints/2"]:
    assert (folder / name).exists(), name
  assert re.match(r"step 1/2  loss ", result.err)
  samples = (folder / "samples.txt").read_text(encoding="utf-8", errors="replace")
  assert samples.count("--- step ") == 2


def test_train_reports_that_it_is_finished_and_goes_on_with_more_steps(trained, text):
  folder, _ = trained
  values = dict(eval__every=1, eval__sample_tokens=5)
  before = (folder / "metrics.jsonl").read_bytes()
  result = processes.run("train", *processes.flags(folder, text, **values))
  assert (result.code, result.err) == (0, "")
  line = "is finished, after step 2; a --config.num_steps above 2 continues it\n"
  assert line in result.out
  assert f"next: {LAUNCHER} generate" in result.out
  assert (folder / "metrics.jsonl").read_bytes() == before
  resumed = processes.run(
    "train", *processes.flags(folder, text, **values, num_steps=3)
  )
  assert resumed.code == 0 and "continues after step 2" in resumed.out
  assert [row["step"] for row in processes.metrics(folder)] == [1, 1, 2, 2, 3, 3]
  samples = (folder / "samples.txt").read_text(encoding="utf-8", errors="replace")
  assert samples.count("--- step ") == 3


def test_a_sample_is_as_long_as_the_context_lets_it(text, tmp_path):
  values = dict(eval__sample_tokens=999, num_steps=1)
  result = processes.run("train", *processes.flags(tmp_path / "run", text, **values))
  assert result.code == 0, result.err
  assert (tmp_path / "run" / "samples.txt").read_bytes().startswith(b"--- step 1\n")


def test_a_checkpoint_does_not_wait_for_a_sample(text, tmp_path):
  values = dict(eval__sample_tokens=5, num_steps=1)
  flags = processes.flags(tmp_path / "run", text, **values)
  assert processes.run("train", *flags, spy=("fail_to_sample", None)).code == 1
  assert (tmp_path / "run" / "checkpoints" / "1").exists()


def test_evaluate(trained):
  folder, _ = trained
  result = processes.run("evaluate", f"--workdir={folder}", "--step=2")
  assert result.code == 0, result.err
  evaluation = json.loads(result.out)
  assert 0 < evaluation["eval/bits_per_byte"] < 10
  assert re.search(
    r"^batch 1/\d+\n", result.err, re.MULTILINE
  )  # progress, without a terminal


def test_report(trained, tmp_path):
  folder, _ = trained
  result = processes.run(
    "report", f"--workdirs={folder},{folder}", f"--out={tmp_path}/v1.2"
  )
  assert result.code == 0, result.err
  score = processes.metrics(folder)[-1]["eval/bits_per_byte"]
  assert result.out.count(f"{score:.3f} bits per byte") == 2
  assert (tmp_path / "v1.2.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
  assert (tmp_path / "v1.2.md").read_text() in result.out
  assert "data:image/png;base64," in (tmp_path / "v1.2.html").read_text()
  missing = processes.run("report", f"--workdirs={tmp_path}/no")
  assert missing.code == 2 and "is not a run's folder" in missing.err


def test_prepare(text, tmp_path):
  flags = processes.flags("", text, data__cache=tmp_path / "cache")
  flags = [flag for flag in flags if not flag.startswith("--workdir")]
  result = processes.run("prepare", *flags)
  assert result.code == 0, result.err
  assert "\nheldout: " in result.out and " bytes per token" in result.out
  assert f"data: {tmp_path}" in result.out
  command = shlex.join([LAUNCHER, "train", *flags])
  assert result.out.endswith(f"next: cd {processes.ROOT} && {command}\n")


def test_generate(trained):
  folder, _ = trained
  result = processes.run(
    "generate", f"--workdir={folder}", "--prompt=the quick", "--max_tokens=8"
  )
  assert result.code == 0, result.err
  assert result.out.startswith("the quick")


@pytest.mark.parametrize(
  "flag, message",
  [
    ("--seed=99999999999999999999", "not an integer in the range [0, 4294967295]"),
    ("--top_k=99999999999", "top_k must be 0 (off) to 2**31 - 1, got 9999"),
  ],
)
def test_numbers_beyond_all_reason(trained, flag, message):
  assert message in processes.refused(
    "generate", f"--workdir={trained[0]}", "--prompt=a", flag
  )


def test_evaluate_takes_no_empty_batch(trained, text):
  flags = [*processes.flags(trained[0], text), "--config.batch=0"]
  assert processes.refused("evaluate", *flags) == "batch=0; wanted 1 or more"
