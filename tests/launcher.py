"""A copy of launch.sh in a tree whose Python and pip log their calls."""

import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Fake interpreter, also copied into .venv: `-m venv` makes a .venv, `pip install` logs
# its requirements, any other program exits with 7.
PYTHON = """#!/bin/bash -p
echo "$@" >>calls.txt
case "$*" in
  "-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip install"*)
    sed 's/ *#.*//; /^$/d' "${!#}" >>installed.txt
    [ ! -e broken-network ] ;;
  "-c"*) ;;
  *) env | grep -E '^(MALLOC|JAX|TF|LM)_|^SHELLOPTS' >environment.txt; exit 7 ;;
esac
"""


def make(tmp_path) -> pathlib.Path:
  """Returns a folder with launch.sh and two verbs, `train` and `plan`."""
  tree = tmp_path / "a clone"
  (tree / "experiments").mkdir(parents=True)
  for name in ("launch.sh", "requirements.txt"):
    shutil.copy(ROOT / name, tree)
  for name in ("train", "plan"):
    (tree / f"experiments/{name}.py").write_text('if __name__ == "__main__": 0')
  (tree / "experiments/process.py").write_text("")
  (tree / "bin").mkdir()
  program(tree, "python", PYTHON)
  program(tree, "nvidia-smi", "#!/bin/sh\nexit 9\n")
  return tree


def program(tree, name, text):
  (tree / "bin" / name).write_text(text)
  (tree / "bin" / name).chmod(0o755)


def start(tree, *args, command=(), **env):
  path = f"{tree}/bin:{os.environ['PATH']}"
  env = {"PATH": path, "PYTHON": f"{tree}/bin/python", **env}
  command = [*(command or [tree / "launch.sh"]), *args]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen(command, env=env, cwd="/", **pipes)


def launch(tree, *args, **env):
  process = start(tree, *args, **env)
  output, error = process.communicate()
  return subprocess.CompletedProcess(args, process.returncode, output, error)


def environment(tree):
  lines = (tree / "environment.txt").read_text().splitlines()
  return dict(line.split("=", 1) for line in lines)


def installed(tree):
  path = tree / "installed.txt"
  text = path.read_text() if path.exists() else ""
  path.unlink(missing_ok=True)
  return text
