"""Writers of metrics, found by name: what they get, and packages that are missing."""

import json
import sys

import processes
import pytest

from lm import log
from lm.log import writers
from lm.train.config import Logging

WANDB = """
import json
class Run:
  def __init__(self, file, **options):
    self.file = open(file + "/sent", "a")
    print(json.dumps(options), file=self.file)
  def log(self, values, step):
    print(json.dumps([step, values]), file=self.file)
  def finish(self):
    self.file.close()
def init(dir, **options):
  return Run(dir, **options)
"""

NULL = """
PACKAGE = ""
class Writer:
  def __init__(self, folder, *, resume_step, config):
    self.file = open(folder / "null.txt", "a")
  def write(self, step, values):
    self.file.write(f"{step} {sorted(values)}\\n")
  def close(self):
    self.file.close()
"""


def test_a_package_that_is_missing_is_named_in_the_first_second(tmp_path):
  flags = ["--config=configs/shakespeare.py", f"--workdir={tmp_path / 'run'}"]
  flags += [f"--config.data.cache={tmp_path / 'cache'}"]
  line = processes.refused("train", *flags, "--config.log.to=('tensorboard','wandb')")
  assert line == (
    "log.to names 'wandb', and the package wandb is not installed; "
    "python -m pip install wandb"
  )
  assert not list(tmp_path.iterdir())
  with pytest.raises(ValueError, match="no 'mlflow' in lm/log/writers; found: tensorb"):
    Logging(to=("mlflow",))


def test_weights_and_biases_continues_its_run(tmp_path, monkeypatch):
  packages, folder = tmp_path / "packages", tmp_path / "run"
  packages.mkdir()
  (packages / "wandb.py").write_text(WANDB)
  monkeypatch.syspath_prepend(packages)
  config = {"optim": {"lr": 0.1}}
  for step in (0, 1, 0):  # the last is a new run in the same folder
    with log.Log(folder, resume_step=step, to=("wandb",), config=config) as run:
      run.write(step + 1, {"train/loss": 2.0})
  monkeypatch.delitem(sys.modules, "wandb")
  lines = [json.loads(line) for line in (folder / "sent").read_text().splitlines()]
  first, second, third = lines[::2]
  assert first["name"] == "run" and first["config"] == config
  assert first == second and third["id"] != first["id"]
  assert lines[1::2] == [[n, {"train/loss": 2.0}] for n in (1, 2, 1)]
  assert not (folder / "tensorboard").exists()


def test_a_new_writer_is_a_file(tmp_path, monkeypatch):
  (tmp_path / "null.py").write_text(NULL)
  monkeypatch.setattr(writers, "__path__", [*writers.__path__, str(tmp_path)])
  assert Logging(to="null").names == ("null",)
  with log.Log(tmp_path, to=("null",)) as run:
    run.write(3, {"train/loss": 1.0, "train/lr": 0.1})
  assert (tmp_path / "null.txt").read_text() == "3 ['train/loss', 'train/lr']\n"


def test_lines_are_written_where_they_are_due(tmp_path):
  text = processes.corpus(tmp_path)
  values = dict(log__every=3, num_steps=7, eval__every=4, log__to="()")
  folder = tmp_path / "run"
  result = processes.run("train", *processes.flags(folder, text, **values))
  assert result.code == 0, result.err
  rows = log.read(folder / "metrics.jsonl")
  assert [row["step"] for row in rows] == [3, 4, 4, 6, 7, 7]
  assert "train/flops" in rows[1] and "eval/loss" in rows[2]
  assert rows[0]["train/seen_tokens"] == 3 * 8 * 16
  assert not (folder / "tensorboard").exists() and "tensorboard" not in result.out
  values["log__every"] = 1  # may change when a run goes on
  flags = processes.flags(folder, text, **values | dict(num_steps=9))
  assert processes.run("train", *flags).code == 0
  rows = log.read(folder / "metrics.jsonl")
  assert [row["step"] for row in rows] == [3, 4, 4, 6, 7, 7, 8, 8, 9, 9]
