"""Paths in any characters for every verb, URLs for none, and two runs in one folder."""

import re
import shutil

import processes
import pytest

from lm.checkpoint import Checkpoints

ODD = "a[2],b:{0}*?%25\n#~'\"$\\x\\é混"
VALUES = dict(eval__every=2, eval__sample_tokens=3, optim__schedule="constant")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


def run(verb, *flags):
  result = processes.run(verb, *flags)
  assert result.code == 0, result.err
  return result


def test_no_character_of_a_path_means_anything(text, tmp_path):
  """Runs every verb with such a path for whatever has one."""
  odd = tmp_path / ODD
  odd.mkdir()
  source = shutil.copy(text, odd / f"{ODD}.txt")
  folder, plain = odd / ODD, tmp_path / "plain"
  values = VALUES | dict(data__cache=odd / "cache")
  run("train", *processes.flags(folder, source, **values))
  assert (odd / "cache").is_dir()
  again = run("train", *processes.flags(folder, source, **values, num_steps=4))
  assert "continues after step 2" in again.out
  run("train", *processes.flags(plain, text, **VALUES, num_steps=4))
  processes.assert_same_bits(folder, plain, 4)

  shutil.copytree(folder, tmp_path / "copy")
  scores = [run("evaluate", f"--workdir={path}").out for path in (folder, plain)]
  assert scores[0] == scores[1]
  prompt = ["--prompt=the", "--max_tokens=4"]
  texts = [run("generate", f"--workdir={odd / ODD}", *prompt).out]
  run("convert", f"--from={folder}", f"--to={odd / 'out[1]'}")
  run("convert", f"--from={odd / 'out[1]'}", f"--to={odd / 'in[1]'}")
  for path in (tmp_path / "copy", odd / "out[1]", odd / "in[1]"):
    texts.append(run("generate", f"--workdir={path}", *prompt).out)
  assert len(set(texts)) == 1
  started = dict(
    init__path=odd / "in[1]", num_steps=1, data__tokenizer=folder / "tokenizer"
  )
  config, shrink = odd / "config.py", processes.ROOT / "tests" / "shrink.py"
  config.write_text(
    f"import runpy\nshrunk = runpy.run_path({str(shrink)!r})['get_config']\n"
    "get_config = lambda name: shrunk(name)\n"
  )
  flags = processes.flags(odd / "next", source, **started)
  run("train", f"--config={config}:shakespeare", *flags[1:])
  workdirs = [f"--workdirs={folder}", f"--workdirs={tmp_path / 'copy'},{plain}"]
  assert ODD in run("report", *workdirs, f"--out={odd / 'report'}").out
  assert (odd / "report.md").is_file() and (odd / "report.png").is_file()


@pytest.mark.parametrize(
  "flags",
  [
    ["train", "--workdir=gs://bucket/run"],
    ["train", "--config.data.source=text:s3://bucket/a.txt"],
    ["train", "--config.data.source=gs://bucket/a.txt"],
    ["train", "--config.data.cache=gs://bucket/cache"],
    ["train", "--config.data.tokenizer=gs://bucket/tokenizer.json"],
    ["train", "--config.init.path=gs://bucket/run"],
    ["prepare", "--config.data.cache=file:///cache"],
    ["evaluate", "--workdir=gs://bucket/run"],
    ["generate", "--workdir=https://host/model.gguf"],
    ["serve", "--workdir=gs://bucket/run"],
    ["convert", "--from=hf://model", "--to={}/model"],
    ["convert", "--from={}", "--to=gs://bucket/model"],
    ["report", "--workdirs=gs://bucket/a", "--out={}/report"],
    ["report", "--workdirs={}", "--out=gs://bucket/report"],
  ],
  ids=" ".join,
)
def test_a_url_is_refused_before_anything_is_made(flags, text, tmp_path):
  verb, *flags = (flag.format(tmp_path) for flag in flags)
  if verb in ("train", "prepare"):
    given = processes.flags(tmp_path / "run", text)
    flags = [*(given if verb == "train" else given[:1] + given[2:]), *flags]
  line = processes.refused(verb, *flags)
  assert re.search(r"[a-z0-9]+://\S+ is a URL; wanted a path of this machine", line)
  assert list(tmp_path.iterdir()) == []


# two processes


def endless(text, folder, **values):
  values |= dict(num_steps=100_000, checkpoint__every=20, optim__schedule="constant")
  return processes.flags(folder, text, **values)


def steps(folder):
  return Checkpoints(folder / "checkpoints", owned=False).steps()


def test_a_second_run_in_a_folder_is_refused_and_readers_are_not(text, tmp_path):
  folder = tmp_path / "run"
  first = processes.start("train", *endless(text, folder))
  try:
    first.until(lambda: steps(folder))
    line = processes.refused("train", *endless(text, folder))
    owner = (
      rf"{folder} belongs to process {first.pid} on \S+ since 20\S+ \d\d:\S+; wait"
    )
    assert re.match(owner, line), line
    run("generate", f"--workdir={folder}", "--prompt=the", "--max_tokens=2")
    run("evaluate", f"--workdir={folder}")
    reached = steps(folder)[-1]
    first.until(lambda: steps(folder)[-1] > reached + 20)
    first.signal()
    assert first.wait().code in (0, 143), first.err
  finally:
    first.kill()
  trained = [r["step"] for r in processes.metrics(folder) if "train/loss" in r]
  assert trained == list(range(1, steps(folder)[-1] + 1))


def test_of_two_that_start_at_once_one_trains(text, tmp_path):
  """Also while their data are still to be prepared."""
  folder = tmp_path / "run"
  flags = processes.flags(folder, text, num_steps=4, data__cache=tmp_path / "cache")
  both = [processes.start("train", *flags) for _ in range(2)]
  assert sorted(process.wait().code for process in both) in ([0, 2], [0, 0])
  for process in both:
    assert process.code == 0 or f"error: {folder} belongs to process " in process.err
  assert [row["step"] for row in processes.metrics(folder)][:4] == [1, 2, 3, 4]
  assert steps(folder) == [4] and not (folder / ".lock").exists()


def test_two_folders_may_share_data_that_are_still_to_be_prepared(text, tmp_path):
  values = dict(num_steps=2, data__cache=tmp_path / "cache", data__rows="first_fit")
  folders = [tmp_path / "a", tmp_path / "b"]
  both = [
    processes.start("train", *processes.flags(folder, text, **values))
    for folder in folders
  ]
  assert [process.wait().code for process in both] == [0, 0], [p.err for p in both]
  processes.assert_same_bits(*folders, 2)


def test_a_killed_run_leaves_its_folder_to_the_next(text, tmp_path):
  folder = tmp_path / "run"
  first = processes.start("train", *endless(text, folder))
  first.until(lambda: steps(folder)).kill()
  assert f"process {first.pid} " in (folder / ".lock").read_text()
  flags = processes.flags(folder, text, num_steps=steps(folder)[-1] + 1)
  flags.append("--config.optim.schedule=constant")
  assert "continues after step" in run("train", *flags).out


def test_the_second_of_two_distributed_runs_is_refused(text, tmp_path):
  folder = tmp_path / "run"
  first = processes.start("train", *endless(text, folder))
  pair = []
  try:
    first.until(lambda: steps(folder))
    pair = processes.pair("train", *endless(text, folder), devices=1)
    assert [process.wait().code for process in pair] == [2, 2]
    assert f"belongs to process {first.pid}" in pair[0].err
    assert "process 0 says why" in pair[1].err
  finally:
    for process in (first, *pair):
      process.kill()
