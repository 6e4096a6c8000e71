"""Engines: whoever runs the tasks, and whatever dies, the corpus is one."""

import copy
import importlib.util
import json
import os
import pathlib
import sys

import pytest

from lm.data.corpus import engines, prepared
from lm.data.sources import _chunks

BINARIES = {
  # Runs the jobs of an array one after the other, but for datatrove's statistics.
  "sbatch": """
    for script; do :; done
    last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
    if grep -q launch_pickled_pipeline "$script"; then
      for SLURM_ARRAY_TASK_ID in $(seq 0 "$last"); do
        export SLURM_ARRAY_TASK_ID; bash "$script" >> "$STUB_LOG" 2>&1
      done
    fi
    echo Submitted batch job 7
  """,
  "srun": 'while [ "$1" != launch_pickled_pipeline ]; do shift; done; exec "$@"',
  "squeue": "exit 0",
  "scontrol": "echo node1",
  "scancel": 'echo "scancel $*" >> "$STUB_LOG"',
}


class Elsewhere(engines.Cluster):
  """A cluster in this process, which loses the tasks of some ranks."""

  packages = ()
  lost, ran = set(), []

  def run(self, step, logs, done):
    for rank, item in enumerate(step.items):
      self.ran.append((step.function.args, item))
      if rank not in self.lost:
        copy.deepcopy(step)(None, rank, len(step.items))


@pytest.fixture
def make(tmp_path, monkeypatch):
  monkeypatch.setattr(_chunks, "CHUNK_BYTES", 2_000)
  monkeypatch.setattr(Elsewhere, "lost", set())
  monkeypatch.setattr(Elsewhere, "ran", [])
  monkeypatch.setitem(engines.CLUSTERS, "elsewhere", Elsewhere)
  texts = [f"Line {n} of a text, and number {n % 40} of it. " * 4 for n in range(90)]
  source = tmp_path / "a.jsonl"
  source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

  def prepare(name, cache, **options):
    return prepared.corpus(
      f"jsonl:{source}",
      "bytes",
      clean={"dedup": "minhash"},
      cache=tmp_path / cache,
      engine=engines.Engine(engine=name, **options),
      log=lambda line: None,
    )

  return prepare


def digest(corpus):
  return corpus.digest(corpus.tokenizer)


def test_a_cluster_makes_the_same(make):
  assert digest(make("elsewhere", "a")) == digest(make("here", "b"))
  assert len(Elsewhere.ran) > 20


def test_what_is_lost_runs_again_and_nothing_else(make, monkeypatch):
  monkeypatch.setattr(Elsewhere, "lost", {1, 2, 3})
  with pytest.raises(engines.Unfinished, match=r"3 of \d+ tasks did not end; .* again"):
    make("elsewhere", "a")
  monkeypatch.setattr(Elsewhere, "lost", set())
  Elsewhere.ran.clear()
  assert digest(make("elsewhere", "a")) == digest(make("here", "b"))
  cleaned = [item[0] for args, item in Elsewhere.ran if args == ("clean",)]
  assert cleaned == [2, 3]  # the first of the lost ones ran here, to say what is wrong


def test_a_broken_line_is_named(make, tmp_path, monkeypatch):
  monkeypatch.setattr(Elsewhere, "lost", {2})
  with open(tmp_path / "a.jsonl", "rb+") as file:
    file.seek(-10, os.SEEK_END)
    file.write(b"\xe9")
  with pytest.raises(ValueError, match=r"a.jsonl line 90 is not UTF-8"):
    make("elsewhere", "a")
  assert not list(tmp_path.glob("a/cleaned/*/"))


def test_what_is_missing_is_one_line(make, monkeypatch):
  with pytest.raises(ValueError, match=r"no prepare.engine 'beam'; found: here, slurm"):
    engines.Engine(engine="beam")
  with pytest.raises(ValueError, match="tasks_per_job"):
    engines.Engine(tasks_per_job=0)
  monkeypatch.setattr(Elsewhere, "packages", ("no_such_package",))
  with pytest.raises(ValueError, match=r"needs no_such_package; .*install"):
    make("elsewhere", "a")
  monkeypatch.setattr(engines.Slurm, "packages", ())
  monkeypatch.setenv("PATH", "")
  with pytest.raises(ValueError, match="needs sbatch: run it on a login node"):
    make("slurm", "a")


@pytest.mark.skipif(
  importlib.util.find_spec("datatrove") is None, reason="datatrove is not installed"
)
def test_slurm_runs_arrays_of_jobs(make, tmp_path, monkeypatch):
  for name, text in BINARIES.items():
    file = tmp_path / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/bash\n{text}")
    file.chmod(0o755)
  python = pathlib.Path(sys.executable).parent
  monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{python}:{os.environ['PATH']}")
  monkeypatch.setenv("SLURM_NODELIST", "node1")
  monkeypatch.setenv("STUB_LOG", str(tmp_path / "jobs.log"))
  with pytest.raises(ValueError, match="needs SBATCH_PARTITION: export"):
    make("slurm", "a")
  monkeypatch.setenv("SBATCH_PARTITION", "main")
  monkeypatch.setenv("SBATCH_TIMELIMIT", "10")
  corpus = make("slurm", "a", tasks_per_job=50)
  assert digest(corpus) == digest(make("here", "b"))
  log = (tmp_path / "jobs.log").read_text()
  assert log.count("Starting data processing job") == 4 and "scancel --name=lm-" in log
