"""Checks and measures one GPU or TPU device: a prepared run of less than 8 minutes.

  .venv/bin/python -m benchmarks.accelerator --out=runs/accelerator.json
  .venv/bin/python -m benchmarks.accelerator --tiny     rehearses it on a CPU

Prints, a line each: every attention backend beside the reference (error and time); the
equalities of two families; tokens/s, MFU and memory of a training step, scanned and
unrolled, beside PyTorch's under torch.compile; tokens/s of decoding beside
`transformers`. Needs jax, flax, optax and numpy; a peer that is not installed with CUDA
is left out. The last line is all results as JSON.

Every side runs in a process of its own, which computes its next result on request, so
that sides take turns in one run, and a process that crashes or hangs costs its section
alone. A section has a deadline, compilation included. The exit code is 1 if a section
failed or ran out of time, or a result is outside its tolerance.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.accelerator_process import Failure, Side
from benchmarks.accelerator_shapes import sizes

# Seconds of each section, in this order; unused time goes to the next section.
SECTIONS = {"attention": 80, "equalities": 80, "train": 205, "decode": 110}


class Report:
  """Results of all sections, printed as they are added."""

  def __init__(self, tiny: bool):
    self.tiny, self.sizes = tiny, sizes(tiny)
    self.results = {"tiny": tiny, "failures": []}

  def add(self, section: str, line: str, **values):
    """Prints `section line` and keeps the values; ok=False counts as a failure."""
    print(f"{section} {line}", flush=True)
    self.results.setdefault(section, []).append(values)
    if not values.get("ok", True):
      self.fail(section, f"outside its tolerance: {line}")

  def fail(self, section: str, problem: str):
    """Prints and keeps a problem, which makes the exit code 1."""
    print(f"{section} FAILED: {problem}", flush=True)
    self.results["failures"].append(f"{section}: {problem}")

  def side(self, section: str, *command: str) -> Side:
    """Starts the process of one side: benchmarks.accelerator_<section> <command>."""
    tiny = ["--tiny"] if self.tiny else []
    return Side(f"benchmarks.accelerator_{section}", *command, *tiny)


def attention(report: Report, deadline: float):
  """Measures each backend; the reference's own rounding error is the tolerance."""
  with report.side("attention") as side:
    for result in side.results(deadline):
      if "device" in result:
        report.results |= result
        print(f"device {result['device']}, jax {result['jax']}", flush=True)
        continue
      title = f"{result['case']} {result['backend']}:"
      if "lacks" in result:
        report.add("attention", f"{title} lacks {result['lacks']}", **result)
      elif "problem" in result:
        report.fail("attention", f"{title} {result['problem']}")
      else:
        line = (
          f"{title} error {result['error']:.1e} (tolerance {result['tolerance']:.1e}), "
          f"{result['ms']:.2f} ms forwards and backwards"
        )
        report.add("attention", line, **result)


def equalities(report: Report, deadline: float):
  """Checks for two families that decoding, scan and remat change no number."""
  with report.side("equalities") as side:
    for result in side.results(deadline):
      title = f"{result['family']} {result['dtype']} {result['equality']}:"
      if "problem" in result:
        report.fail("equalities", f"{title} {result['problem']}")
        continue
      line = f"error {result['error']:.1e} (tolerance {result['tolerance']:.0e})"
      report.add("equalities", f"{title} {line}", **result)


def train(report: Report, deadline: float):
  """Measures a training step of each model: our two forms of depth and the peer."""
  start = time.monotonic()
  share_s = (deadline - start) / len(report.sizes.trained)
  for i, shape in enumerate(report.sizes.trained, start=1):
    _train(report, shape, start + i * share_s)


def _train(report: Report, shape: str, deadline: float):
  prepared = time.monotonic() + 0.8 * (deadline - time.monotonic())
  steps = {}  # (side, form) -> its measurements
  with (
    report.side("train", shape) as our_side,
    report.side("peers", shape) as torch_side,
  ):
    sides = {"ours": our_side, "torch": torch_side}
    facts = answers(report, f"train {shape}", sides, prepared)
    for name in list(sides):
      with failing(report, f"train {shape}", sides, name):
        sides[name].request()  # both compile at once
    for name in list(sides):
      with failing(report, f"train {shape}", sides, name):
        for i, form in enumerate(facts[name]["forms"]):
          step = sides[name].next(prepared) if i else sides[name].answer(prepared)
          if "problem" in step:
            report.fail("train", f"{shape} {name} {form}: {step['problem']}")
          else:
            steps[name, form] = step | {"rounds_s": []}
    for _ in range(report.sizes.rounds):
      for name, times in answers(report, f"train {shape}", sides, deadline).items():
        for form, step_s in times.items():
          steps[name, form]["rounds_s"].append(step_s)
  _report_steps(report, shape, facts.get("ours"), steps)


def _report_steps(report: Report, shape: str, fact: dict | None, steps: dict):
  """Reports the rates of all sides; MFU is by our FLOPs and peak.

  A side that was not measured in rounds has its first time after compilation.
  """
  best = {}
  for (name, form), step in steps.items():
    step_s = statistics.median(step["rounds_s"] or [step["first_s"]])
    rate = step["tokens"] / step_s
    values = dict(shape=shape, side=name, form=form, step_s=step_s, tokens_per_s=rate)
    line = f"{shape} {name} {form}: {step_s * 1e3:.1f} ms, {rate:,.0f} tokens/s"
    if fact:
      values["mfu"] = fact["flops"] / step_s / fact["peak_flops"]
      line += f", {values['mfu']:.1%} MFU"
    line += f", {step['memory_bytes'] / 2**30:.2f} GiB, {step['compile_s']:.0f} s"
    report.add("train", f"{line} to compile", **step, **values)
    best[name] = max(rate, best.get(name, 0.0))
  if len(best) == 2:
    print(f"train {shape}: {best['ours'] / best['torch']:.2f}x the peer's tokens/s")


def decode(report: Report, deadline: float):
  """Measures greedy decoding of several batches, beside `transformers`."""
  with report.side("decode") as our_side, report.side("peers", "decode") as peer:
    sides = {"ours": our_side, "transformers": peer}
    answers(report, "decode", sides, deadline)
    for batch in report.sizes.batches:
      measured = {name: [] for name in sides}
      for _ in range(report.sizes.rounds):
        for name, result in answers(report, "decode", sides, deadline).items():
          measured[name].append(result["tokens_per_s"])
      rates = {name: statistics.median(x) for name, x in measured.items() if x}
      line = ", ".join(f"{name} {rate:,.0f} tokens/s" for name, rate in rates.items())
      if len(rates) == 2:
        line += f": {rates['ours'] / rates['transformers']:.2f}x"
      if rates:
        report.add("decode", f"batch {batch}: {line}", batch=batch, tokens_per_s=rates)


def answers(report: Report, title: str, sides: dict, deadline: float) -> dict:
  """Returns {name: next result} of all sides, one after the other.

  A side that fails or is absent is removed from `sides`.
  """
  results = {}
  for name in list(sides):
    with failing(report, title, sides, name):
      result = sides[name].next(deadline)
      if "absent" in result:
        print(f"{title} {name}: {result['absent']}", flush=True)
        del sides[name]
      else:
        results[name] = result
  return results


@contextlib.contextmanager
def failing(report: Report, title: str, sides: dict, name: str):
  """Reports a Failure of a side and removes it from `sides`."""
  try:
    yield
  except Failure as problem:
    report.fail(title, str(problem))
    del sides[name]


def run(report: Report, names) -> dict:
  """Returns the results of these sections; unused time goes to the next section."""
  deadline = time.monotonic()
  for name in names:
    deadline += SECTIONS[name] * report.sizes.patience
    before = time.monotonic()
    try:
      globals()[name](report, deadline)
    except Failure as problem:
      report.fail(name, str(problem))
    took_s = time.monotonic() - before
    report.results.setdefault("seconds", {})[name] = round(took_s, 1)
    print(f"{name} took {took_s:.0f} s", flush=True)
  return report.results


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tiny", action="store_true", help="tiny sizes, for a CPU")
  parser.add_argument(
    "--only", default=",".join(SECTIONS), help="sections, with commas"
  )
  parser.add_argument("--out", type=Path, help="writes the JSON here too")
  args = parser.parse_args()
  names = args.only.split(",")
  if unknown := [name for name in names if name not in SECTIONS]:
    parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
  results = run(Report(args.tiny), names)
  text = json.dumps(results)
  if args.out:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n", encoding="utf-8")
  failures = len(results["failures"])
  print(f"{failures} failures" if failures else "nothing failed")
  print(text)
  sys.exit(bool(failures))


if __name__ == "__main__":
  main()
