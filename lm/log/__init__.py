"""The metrics of a run: on disk, for TensorBoard, and on the screen.

`metrics.jsonl` holds an object a line, `{"step": 9, "time_s": 31.2, "train/lr": ...}`,
in strict JSON: a number that is not finite is the string "NaN", "Infinity" or
"-Infinity", which `float` reads. `time_s` counts the seconds of training and goes on
across restarts. There is no jax here: values are numbers or what has `.item()`.
"""

import errno
import json
import math
import os
import sys
import time
from pathlib import Path

from lm.disk import atomic
from lm.disk.events import Events
from lm.errors import Mistake
from lm.log.progress import Bar, Lines


class Log:
  """The log of one run, a context manager; on other processes than the first, silent.

  `resume_step` is the step the run goes on from. What a former process wrote about
  later steps is dropped, so that an interrupted run ends with one line a logged step;
  so write what belongs to a step before its checkpoint is saved. `num_steps` is where
  the run ends, for the time left. OSError when the disk is full or nothing may be
  written to the folder.
  """

  def __init__(self, workdir, *, resume_step=0, num_steps=None, primary=True):
    self._file = self._events = self._screen = None
    if not primary:
      return
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    self._start_s = time.monotonic() - _rewind(path, resume_step)
    # Unbuffered and appending: a line is one write, so kill -9 cuts at most the last.
    self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
    self._events = Events(folder / "tensorboard", purge_step=resume_step + 1)
    self._screen = (Bar if sys.stderr.isatty() else Lines)(resume_step, num_steps)

  def write(self, step: int, metrics: dict):
    """Appends one line; names are "group/name", values numbers or scalar arrays."""
    if self._file is None:
      return
    values = {name: _number(value) for name, value in metrics.items()}
    time_s = round(time.monotonic() - self._start_s, 3)
    row = {"step": int(step), "time_s": time_s}
    row |= {name: _strict(value) for name, value in values.items()}
    line = f"{json.dumps(row, allow_nan=False)}\n".encode()
    if self._file.write(line) != len(line):  # a nearly full disk takes a part
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
    self._events.write(int(step), values)

  def progress(self, step: int, **shown):
    """Shows that `step` is done, with numbers such as loss=3.21, tokens_per_s=14203."""
    if self._screen is not None:
      self._screen.progress(int(step), {k: _number(v) for k, v in shown.items()})

  def say(self, line: str):
    """Prints a line without breaking the progress bar."""
    if self._screen is not None:
      self._screen.say(line)

  def close(self):
    """Ends the progress bar and closes the files."""
    for part in (self._screen, self._events, self._file):
      if part is not None:
        part.close()
    self._file = self._events = self._screen = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def read(path) -> list[dict]:
  """The rows of a metrics.jsonl, with "NaN" and its kind as floats again.

  A last line that a killed process left half-written is skipped; Mistake names any
  other line that is not one of ours.
  """
  return [
    {k: v if k in ("step", "time_s") else float(v) for k, v in row.items()}
    for _, row in _lines(Path(path))
  ]


def _lines(path: Path) -> list[tuple]:
  """The lines as they are, each with its row."""
  found, lines = [], path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
      found.append((line, row | {"step": int(row["step"]), "time_s": row["time_s"]}))
    except (ValueError, TypeError, LookupError) as error:
      if number == len(lines):  # empty after the last end of line, or cut by kill -9
        break
      raise Mistake(
        f"line {number} of {path} is not an object with step and time_s; remove it"
      ) from error
  return found


def _rewind(path: Path, step: int) -> float:
  """Drops what `path` says about later steps than `step`; the last time_s that is left.

  A run that starts anew, at step 0, keeps nothing.
  """
  lines = _lines(path) if path.exists() else []
  lines = [(line, row) for line, row in lines if step and row["step"] <= step]
  kept = b"".join(line + b"\n" for line, _ in lines)
  if path.exists() and path.read_bytes() != kept:
    atomic.write(path, kept)
  return max((row["time_s"] for _, row in lines), default=0.0)


def _number(value):
  """A Python number of a number or of an array that holds one."""
  return value.item() if hasattr(value, "item") else value


def _strict(value):
  if math.isfinite(value):
    return value
  return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
