"""Accelerator benchmark: a rehearsal on a CPU, and parts that fail."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from benchmarks import accelerator
from benchmarks.accelerator_process import Failure, Side

ROOT = pathlib.Path(__file__).resolve().parents[2]
LATER = 600.0  # seconds, longer than any step of these tests


def test_a_rehearsal_measures_every_part(tmp_path):
  path = tmp_path / "made" / "results.json"
  command = [sys.executable, "-m", "benchmarks.accelerator", "--tiny", f"--out={path}"]
  run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert run.returncode == 0, run.stdout + run.stderr
  results = json.loads(path.read_text())
  assert json.loads(run.stdout.splitlines()[-1]) == results
  assert (results["failures"], results["device"]) == ([], "cpu")
  assert {line["backend"] for line in results["attention"]} == {
    "xla",
    "chunked",
    "fused",
    "splash",
  }
  lacks = [line for line in results["attention"] if "lacks" in line]
  assert {line["case"] for line in lacks} == {"softcap"}
  assert "attention softcap fused: lacks soft-caps (softcap=30)" in run.stdout
  assert len(results["equalities"]) == 2 * 3  # families times equalities
  sides = {(line["shape"], line["side"], line["form"]) for line in results["train"]}
  forms = {("ours", "scanned"), ("ours", "unrolled"), ("torch", "compiled")}
  shapes = accelerator.sizes(tiny=True).trained
  assert sides == {(shape, *form) for shape in shapes for form in forms}
  assert all(line["mfu"] > 0 for line in results["train"])
  for line in results["decode"]:
    assert line["tokens_per_s"].keys() == {"ours", "transformers"}


def test_a_part_that_fails_is_reported_and_the_others_go_on(monkeypatch, capsys):
  def failing(report, deadline):
    raise Failure("no device")

  def whole(report, deadline):
    report.add("decode", "batch 1: fast", ok=True)
    report.add("decode", "batch 2: wrong", ok=False)

  monkeypatch.setattr(accelerator, "train", failing)
  monkeypatch.setattr(accelerator, "decode", whole)
  monkeypatch.setattr(sys, "argv", ["accelerator", "--only=train,decode"])
  with pytest.raises(SystemExit) as end:
    accelerator.main()
  assert end.value.code == 1
  output = capsys.readouterr().out
  assert "train FAILED: no device\n" in output
  assert "decode batch 1: fast\n" in output
  failures = json.loads(output.splitlines()[-1])["failures"]
  wrong = "decode: outside its tolerance: batch 2: wrong"
  assert failures == ["train: no device", wrong]


class Answers:
  """Fake Side that gives these results one after the other, and raises a Failure."""

  def __init__(self, *results):
    self.results = list(results)

  def next(self, deadline):
    result = self.results.pop(0)
    if isinstance(result, Failure):
      raise result
    return result


def test_a_side_that_fails_or_is_absent_leaves_the_others_their_turns(capsys):
  report = accelerator.Report(tiny=True)
  sides = {
    "ours": Answers({"x": 1}, {"x": 2}),
    "broken": Answers({"x": 3}, Failure("it ended")),
    "missing": Answers({"absent": "it is not installed"}),
  }
  turn = lambda: accelerator.answers(report, "train", sides, LATER)
  assert turn() == {"ours": {"x": 1}, "broken": {"x": 3}}
  assert turn() == {"ours": {"x": 2}}
  assert list(sides) == ["ours"]
  assert report.results["failures"] == ["train: it ended"]
  assert "train missing: it is not installed" in capsys.readouterr().out


SIDE = """
import sys
sys.path.insert(0, {root!r})
from benchmarks.accelerator_process import serve
def results():
  print("what a library prints")
  yield {{"first": 1}}
  {then}
serve(results())
"""


@pytest.fixture
def side(tmp_path, monkeypatch):
  """Returns start(code after the first result) -> Side; ends the Sides."""
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  sides = []

  def start(then):
    code = SIDE.format(root=str(ROOT), then=then)
    (tmp_path / "a_side.py").write_text(code)
    sides.append(Side("a_side", "--x"))
    return sides[-1]

  yield start
  for started in sides:
    started.__exit__()


def test_a_side_computes_on_request_until_it_ends(side):
  assert list(side("yield {'second': 2}").results(time.monotonic() + LATER)) == [
    {"first": 1},
    {"second": 2},
  ]


def test_a_side_that_raises_is_named_with_its_exception(side):
  started, later = side("raise ValueError('so big')"), time.monotonic() + LATER
  assert started.next(later) == {"first": 1}
  with pytest.raises(Failure, match="a_side --x ended: ValueError: so big"):
    started.next(later)
  with pytest.raises(Failure, match="ValueError: so big"):
    started.next(later)


def test_a_side_that_hangs_is_left_at_the_deadline_and_ended(side):
  with side("import threading; threading.Event().wait(); yield {}") as started:
    assert started.next(time.monotonic() + LATER) == {"first": 1}
    with pytest.raises(Failure, match="a_side --x was not done in time"):
      started.next(time.monotonic() + 0.1)
    pid = started._process.pid
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)
