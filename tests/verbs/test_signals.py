"""Signals: Ctrl-C and SIGTERM at every stage of a verb, and output nobody reads."""

import os
import signal
import subprocess
import sys

import processes
import pytest


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
  """A run of four steps, saved after each second."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  result = processes.run("train", *processes.flags(folder, text, **FOUR))
  assert result.code == 0, result.err
  return folder


FOUR = dict(num_steps=4, checkpoint__every=2, optim__schedule="constant")


def lines_of(folder):
  path = folder / "metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


ENDLESS = FOUR | dict(num_steps=100_000, checkpoint__every=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_saves_and_the_same_command_goes_on(number, text, tmp_path):
  folder = tmp_path / "run"
  flags = processes.flags(folder, text, **ENDLESS)
  last_step = 0
  for _ in range(2):
    going = processes.start("train", *flags)
    going.until(lambda last_step=last_step: lines_of(folder) > last_step + 9).signal(
      number
    )
    assert going.wait().code == 128 + number, going.err
    [line] = [x for x in going.err.splitlines() if not x.startswith("step ")]
    assert line.startswith("saving, then stopping")
    step = max(int(path.name) for path in (folder / "checkpoints").iterdir())
    _, stopped, commands = going.out.partition(f"stopped after step {step}, saved; ")
    assert stopped and commands.startswith("the same command continues from there\n")
    assert f"launch.sh generate --workdir={folder}" in commands
    assert not last_step or f"continues after step {last_step} of" in going.out
    last_step = step
  assert [row["step"] for row in processes.metrics(folder)] == list(
    range(1, last_step + 1)
  )


def test_the_second_signal_exits_at_once(text, tmp_path):
  """While the first one's step and save are under way: here, a step that never ends."""
  flags = processes.flags(tmp_path / "run", text, **ENDLESS)
  going = processes.start("train", *flags, spy=("hang", 3))
  going.until(lambda: lines_of(tmp_path / "run") >= 1).signal(signal.SIGINT)
  going.until(lambda: "saving, then stopping" in going.err)
  for _ in range(100):  # the earliest may pass for echoes of the first
    going.signal(signal.SIGINT)
    if going.ended(0.1):
      break
  assert going.code == 130
  assert "Traceback" not in going.err


def test_ctrl_c_before_there_is_something_to_save(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, data__cache=tmp_path / "cache")
  going = processes.start("train", *flags, spy=("hang_in_preparing", None))
  going.until(lambda: "preparing" in going.out).signal(signal.SIGINT)
  assert going.wait().code == 130
  assert going.err == INTERRUPTED


INTERRUPTED = "\ninterrupted; the same command starts it again\n"


def test_ctrl_c_while_a_verb_imports(tmp_path):
  """Of all imports absl is the first that is not ours."""
  kill = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True:\n  pass"
  (tmp_path / "absl.py").write_text(kill)
  result = processes.fresh("report", env={"PYTHONPATH": str(tmp_path)})
  assert (result.code, result.out, result.err) == (130, "", INTERRUPTED)
  import experiments  # noqa: F401 - which leaves everybody else alone

  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_meets_the_garbage_collector(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, data__cache=tmp_path / "cache")
  result = processes.run("train", *flags, spy=("interrupt_a_callback", None))
  assert (result.code, result.err) == (130, INTERRUPTED)


def test_ctrl_c_while_a_text_streams(trained):
  flags = (f"--workdir={trained}", "--prompt=the")
  going = processes.start("generate", *flags, spy=("hang_in_streaming", None))
  going.until(lambda: len(going.out) > len("the")).signal(signal.SIGINT)
  assert going.wait().code == 130
  assert going.err == INTERRUPTED


def test_sigterm_while_a_model_is_converted(trained, tmp_path):
  flags = (f"--from={trained}", f"--to={tmp_path / 'out'}")
  result = processes.run("convert", *flags, spy=("terminate_in_a_tensor", None))
  assert result.code == 143
  assert result.err.startswith("\ninterrupted; ") and result.err.count("\n") == 2


def test_nobody_reads_any_more(trained):
  command = [sys.executable, "-m", "experiments.report", f"--workdirs={trained}"]
  command.append(f"--out={trained.parent / 'report'}")
  read_end, write_end = os.pipe()
  os.close(read_end)
  result = subprocess.run(
    command, stdout=write_end, stderr=subprocess.PIPE, cwd=processes.ROOT
  )
  os.close(write_end)
  assert (result.returncode, result.stderr) == (141, b"")
