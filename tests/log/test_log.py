"""Logs of a run: they survive kills, restarts and full disks."""

import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm import log
from lm.disk import events
from lm.log import progress


def lines(folder):
  return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_line_holds_step_time_and_metrics(tmp_path):
  with log.Log(tmp_path) as run:
    run.write(1, {"train/nats_per_token": np.float32(0.1), "train/seen_tokens": 2**40})
    run.write(np.int32(2), {"eval/nats_per_token": 3})
  first, second = lines(tmp_path)
  assert list(first)[:2] == ["step", "time_s"]
  assert np.float32(first["train/nats_per_token"]) == np.float32(0.1)
  assert first["train/seen_tokens"] == 2**40
  assert second["step"] == 2
  assert 0 <= first["time_s"] <= second["time_s"]
  assert log.read(tmp_path / "metrics.jsonl") == [first, second]


def test_other_processes_are_silent(tmp_path, capfd):
  with log.Log(tmp_path, primary=False) as run:
    run.write(1, {"train/a": 1.0})
    run.progress(1, loss=1.0)
    run.say("hello")
  assert not os.listdir(tmp_path)
  assert capfd.readouterr() == ("", "")


def test_numbers_that_are_not_finite_stay_strict_json(tmp_path):
  values = {"a/nan": float("nan"), "a/inf": np.float32("inf"), "a/low": -float("inf")}
  with log.Log(tmp_path) as run:
    run.write(1, values)

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  text = (tmp_path / "metrics.jsonl").read_text()
  row = json.loads(text, parse_constant=refuse)
  assert (row["a/nan"], row["a/inf"], row["a/low"]) == ("NaN", "Infinity", "-Infinity")
  (logged,) = log.read(tmp_path / "metrics.jsonl")
  assert np.isnan(logged["a/nan"])
  assert logged["a/low"] == -np.inf


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 60))
def test_a_resumed_run_has_one_line_a_step(tmp_path_factory, killed, saved, cut):
  folder = tmp_path_factory.mktemp("run")
  saved = min(saved, killed)
  with log.Log(folder) as run:
    for step in range(1, killed + 1):
      run.write(step, {"train/loss": step / 7})
  path = folder / "metrics.jsonl"
  if saved < killed:  # the kill came while the last line was written
    path.write_bytes(path.read_bytes()[: -min(cut, 20)] if cut else path.read_bytes())
  with log.Log(folder, resume_step=saved) as run:
    for step in range(saved + 1, 16):
      run.write(step, {"train/loss": step / 7})
  rows = lines(folder)
  assert [row["step"] for row in rows] == list(range(1, 16))
  assert [row["train/loss"] for row in rows] == [step / 7 for step in range(1, 16)]
  assert [row["time_s"] for row in rows] == sorted(row["time_s"] for row in rows)


def test_time_goes_on_from_the_last_kept_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text(
    '{"step": 5, "time_s": 100.5, "a/b": 1}\n{"step": 6, "time_s": 130.0}\n'
  )
  with log.Log(tmp_path, resume_step=5) as run:
    run.write(6, {"a/b": 2})
  first, second = lines(tmp_path)
  assert first == {"step": 5, "time_s": 100.5, "a/b": 1}
  assert 100.5 <= second["time_s"] < 130


def test_a_fresh_run_keeps_nothing_of_an_older_one(tmp_path):
  for _ in range(2):
    with log.Log(tmp_path) as run:
      run.write(0, {"eval/a": 1.0})
      run.write(1, {"train/a": 1.0})
  assert [row["step"] for row in lines(tmp_path)] == [0, 1]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "time_s": 0}\n{"st\n{"step": 3, "time_s": 0}\n')
  with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl"):
    log.Log(tmp_path, resume_step=3)


WRITER = """
import sys
from lm.log import Log
with Log(sys.argv[1]) as run:
  for step in range(1, 10**9):
    run.write(step, {f"train/metric_{i}": step / 7 for i in range(20)})
    if step == 50:
      print("go", flush=True)
"""


def test_kill_9_leaves_whole_lines(tmp_path):
  child = subprocess.Popen(
    [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE
  )
  child.stdout.readline()
  child.send_signal(signal.SIGKILL)
  child.communicate()
  rows = log.read(tmp_path / "metrics.jsonl")
  assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
  assert len(rows) >= 50


LIMITED = """
import resource, sys
from lm.log import Log
with Log(sys.argv[1]) as run:
  run.write(1, {"train/loss": 1.0})
  resource.setrlimit(resource.RLIMIT_FSIZE, (90, resource.RLIM_INFINITY))
  try:
    run.write(2, {"train/loss": 2.0})
  except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_a_line_that_does_not_fit_is_an_error_and_mended_on_resume(tmp_path):
  child = subprocess.run(
    [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True
  )
  assert child.stderr.startswith("OSError: [Errno 28]")
  path = tmp_path / "metrics.jsonl"
  assert path.stat().st_size == 90  # a whole line and a part of one
  log.Log(tmp_path, resume_step=1).close()
  assert [row["step"] for row in lines(tmp_path)] == [1]


# TensorBoard


def records(path):
  """Returns the events of a file, read independently, checksums compared."""
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.record_writer import masked_crc32c

  data, events = path.read_bytes(), []
  while data:
    (size,), event = struct.unpack("<Q", data[:8]), data[12:]
    assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
    crc, data = struct.unpack("<I", event[size : size + 4])[0], event[size + 4 :]
    assert crc == masked_crc32c(event[:size])
    events.append(Event.FromString(event[:size]))
  return events


def test_tensorboard_gets_the_same_numbers(tmp_path):
  with log.Log(tmp_path, resume_step=7) as run:
    run.write(300, {"train/loss": 0.5, "train/big": 1e300, "train/nan": float("nan")})
  (path,) = (tmp_path / "tensorboard").iterdir()
  head, start, event = records(path)
  assert path.name.startswith("events.out.tfevents.")
  assert head.file_version == "brain.Event:2"
  assert start.session_log.status == start.session_log.START
  assert start.step == 8  # older events from this step on do not count
  assert event.step == 300
  values = {value.tag: value.simple_value for value in event.summary.value}
  assert values["train/loss"] == 0.5
  assert values["train/big"] == np.inf
  assert np.isnan(values["train/nan"])


@given(st.integers(0, 2**62), st.text(max_size=300), st.floats(width=32))
def test_any_scalar_is_read_back(tmp_path_factory, step, name, value):
  folder = tmp_path_factory.mktemp("events")
  writer = events.Events(folder, purge_step=1)
  writer.write(step, {name: value})
  writer.close()
  event = records(next(folder.iterdir()))[-1]
  assert (event.step, event.summary.value[0].tag) == (step, name)
  np.testing.assert_equal(event.summary.value[0].simple_value, value)


# The screen


def test_plain_lines_come_now_and_then(monkeypatch, capsys):
  clock = iter(x / 10 for x in range(10**6))  # a tenth of a second for every call
  monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
  lines = progress.Lines(100, 30_100)
  for step in range(101, 30_101):
    lines.update(step, {"loss": 3.14159, "tokens_per_s": 14203.7})
  lines.close()
  shown = capsys.readouterr().err.splitlines()
  assert 40 < len(shown) < 100
  assert shown[0].startswith("step 101/30100  loss 3.142  tokens_per_s 14,204")
  assert shown[1].endswith("steps/s  49:50 left")
  assert shown[-1].startswith("step 30100/30100")


def test_lines_go_to_stdout_and_progress_to_stderr(tmp_path, capfd):
  with log.Log(tmp_path, num_steps=2) as run:
    run.progress(1, loss=2.0)
    run.say("a sample")
    run.progress(2, loss=1.0)
  output, err = capfd.readouterr()
  assert output == "a sample\n"
  assert err.splitlines()[0] == "step 1/2  loss 2"
  assert err.splitlines()[-1].startswith("step 2/2  loss 1")


def test_a_bar_on_a_terminal_shows_rate_and_time_left(tmp_path):
  code = f"""
from lm.log import Log
with Log({str(tmp_path)!r}, resume_step=5, num_steps=10) as run:
  for step in range(6, 11):
    run.progress(step, loss=2.5)
    run.say(f"said {{step}}")
"""
  parent, child = pty.openpty()
  termios.tcsetwinsize(child, (24, 100))
  process = subprocess.run(
    [sys.executable, "-c", code], stderr=child, stdout=subprocess.PIPE, check=True
  )
  os.close(child)
  bar = os.read(parent, 65536).decode()
  os.close(parent)
  assert process.stdout.decode() == "".join(f"said {n}\n" for n in range(6, 11))
  assert "10/10" in bar
  assert "loss 2.5" in bar
  assert "step/s" in bar


@pytest.mark.parametrize(
  "options, lines",
  [
    ({}, ["step 1/4", "step 4/4  30 steps/s  0:00 left"]),
    ({"unit": "batch"}, ["batch 1/4", "batch 4/4  30 batches/s  0:00 left"]),
    ({"size": len, "unit": "doc"}, ["doc 2", "doc 8  60 docs/s"]),
    (
      {"size": len, "total": 8, "label": "tokenize"},
      ["tokenize: step 2/8", "tokenize: step 8/8  60 steps/s  0:00 left"],
    ),
  ],
)
def test_progress_yields_the_items_and_counts_them(monkeypatch, capsys, options, lines):
  clock = iter(x / 10 for x in [0, 0, 0, 0, 0, 1])  # 3 more items in 0.1 s
  monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
  items = ["ab", "cd", "ef", "gh"]
  assert list(progress.progress(items, **options)) == items
  assert capsys.readouterr().err.splitlines() == lines


def test_progress_of_an_iterator_that_is_left_early(capsys):
  for item in progress.progress(iter("abcdef"), unit="letter"):
    if item == "d":
      break
  first, last = capsys.readouterr().err.splitlines()
  assert first == "letter 1"
  assert last.startswith("letter 3  ")  # the fourth was not finished
  assert list(progress.progress([])) == []
  assert capsys.readouterr().err == ""
