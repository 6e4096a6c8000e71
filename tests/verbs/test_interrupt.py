"""Interrupts: the first signal saves and stops, the second ends at once."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.interrupt import Interrupt

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def wait_for(claim, seconds=10):
  end = time.monotonic() + seconds
  while not claim():
    assert time.monotonic() < end, "it did not come true"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_flag(number, capfd):
  before = signal.getsignal(number), signal.set_wakeup_fd(-1)
  with Interrupt() as interrupt:
    assert not interrupt.number and not interrupt.agreed(0)
    signal.raise_signal(signal.SIGCHLD)  # another signal, which is ignored
    signal.raise_signal(number)
    signal.raise_signal(number)  # the duplicate that a process group delivers
    wait_for(lambda: interrupt.number)
    assert interrupt.agreed(1)
  assert (signal.getsignal(number), signal.set_wakeup_fd(-1)) == before
  assert interrupt.number == number  # it stays after the block
  line = "saving, then stopping; press Ctrl-C again to stop at once\n"
  assert capfd.readouterr().err == line


def test_without_a_signal_nothing_is_printed(capfd):
  with Interrupt() as interrupt:
    pass
  assert not interrupt.number
  assert capfd.readouterr().err == ""


BUSY = """
import hashlib
from experiments.interrupt import Interrupt
with Interrupt():
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)  # minutes without a bytecode
"""


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_second_signal_ends_it_at_once_even_inside_c(number, code):
  command = [sys.executable, "-c", BUSY]
  pipe = subprocess.PIPE
  with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as process:
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.stderr.readline().startswith(b"saving, then stopping")
    for _ in range(100):  # the earliest may pass for echoes of the first
      process.send_signal(number)
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)
        break
    assert process.returncode == code


def start_pair(folder):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  script = str(ROOT / "tests" / "checkpoint" / "checkpoint_pair.py")
  return [
    subprocess.Popen(
      [sys.executable, script, str(port), str(index), str(folder)],
      stdout=subprocess.PIPE,
      text=True,
      env=ENVIRONMENT,
    )
    for index in range(2)
  ]


def stop_one(pair, after):
  """Signals the second process only, after so many lines; returns both outputs."""
  for _ in range(after):
    pair[1].stdout.readline()
  pair[1].send_signal(signal.SIGTERM)
  outputs = [process.communicate(timeout=60)[0].splitlines() for process in pair]
  assert [process.returncode for process in pair] == [0, 0]
  return outputs


def test_two_processes_stop_at_the_same_step_and_go_on_from_it(tmp_path):
  stopped, lines = 0, []
  for _ in range(2):
    pair = start_pair(tmp_path)
    try:
      outputs = stop_one(pair, after=7)
    finally:
      for process in pair:
        process.kill()
    assert outputs[0][-1] == outputs[1][-1]
    word, step, total, number = outputs[0][-1].split()
    assert word == "stopped" and int(step) > stopped
    assert int(number) == signal.SIGTERM  # also in the process that got none
    expected = sum(range(32)) * 1.01 ** int(step)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    lines += outputs[0]
    assert not stopped or f"restored {stopped} {stopped} {stopped}" in lines
    stopped = int(step)
    assert str(stopped) in {path.name for path in tmp_path.iterdir()}
