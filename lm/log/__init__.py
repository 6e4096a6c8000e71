"""The metrics of a run: on disk, on the screen, and where `writers` sends them.

`metrics.jsonl` holds an object a line, `{"step": 9, "time_s": 31.2, "train/lr": ...}`,
in strict JSON: a number that is not finite is the string "NaN", "Infinity" or
"-Infinity", which `float` reads. `time_s` counts the seconds of training and continues
across restarts. There is no jax here: values are numbers or have `.item()`.
"""

import errno
import json
import math
import os
import time
from pathlib import Path

from lm.disk import atomic
from lm.errors import Mistake
from lm.log import writers
from lm.log.progress import display


class Log:
  """The log of one run, a context manager; silent unless `primary` (process 0).

  `resume_step` is the step that the run resumes from: lines about later steps, written
  before the run was interrupted, are removed, so that every logged step has one line.
  Write the metrics of a step before its checkpoint is saved, or a kill in between loses
  them. `num_steps` is the last step, for the time left; `to` are names of `writers`,
  and `config` is what they are given. Raises OSError when the disk is full or the
  folder cannot be written.
  """

  def __init__(
    self,
    workdir,
    *,
    resume_step=0,
    num_steps=None,
    primary=True,
    to=("tensorboard",),
    config=None,
  ):
    self._file = self._display = None
    self._writers = []
    if not primary:
      return
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    self._start_s = time.monotonic() - _rewind(path, resume_step)
    # Unbuffered and appending: a line is one write, so kill -9 cuts at most the last.
    self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
    self._writers = writers.make(
      to, folder, resume_step=resume_step, config=config or {}
    )
    self._display = display(resume_step, num_steps)

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
    for writer in self._writers:
      writer.write(int(step), values)

  def progress(self, step: int, **values):
    """Shows that `step` is done, with values such as loss=3.21, tokens_per_s=14203."""
    if self._display is not None:
      values = {name: _number(value) for name, value in values.items()}
      self._display.update(int(step), values)

  def say(self, line: str):
    """Prints a line to stdout without breaking the progress bar."""
    if self._display is not None:
      self._display.say(line)

  def close(self):
    """Ends the progress bar and closes the files."""
    for part in (self._display, *self._writers, self._file):
      if part is not None:
        part.close()
    self._file, self._display, self._writers = None, None, []

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def read(path) -> list[dict]:
  """Returns the rows of a metrics.jsonl, "NaN" and the infinities as floats again.

  Skips a last line that a killed process left incomplete. Raises Mistake naming any
  other line that is not a JSON object with step and time_s.
  """
  return [
    {k: v if k in ("step", "time_s") else float(v) for k, v in row.items()}
    for _, row in _parsed_lines(Path(path))
  ]


def _parsed_lines(path: Path) -> list[tuple]:
  """Returns (line, row) of every complete line: its bytes, and the object in them."""
  parsed, lines = [], path.read_bytes().split(b"\n")
  for number, line in enumerate(lines, start=1):
    try:
      row = json.loads(line)
      parsed.append((line, row | {"step": int(row["step"]), "time_s": row["time_s"]}))
    except (ValueError, TypeError, LookupError) as error:
      if number == len(lines):  # empty after the last end of line, or cut by kill -9
        break
      raise Mistake(
        f"line {number} of {path} is not an object with step and time_s; remove it"
      ) from error
  return parsed


def _rewind(path: Path, step: int) -> float:
  """Removes the lines about steps after `step`; returns the last time_s that is left.

  At step 0, a new run, no line is kept.
  """
  lines = _parsed_lines(path) if path.exists() else []
  lines = [(line, row) for line, row in lines if step and row["step"] <= step]
  kept = b"".join(line + b"\n" for line, _ in lines)
  if path.exists() and path.read_bytes() != kept:
    atomic.write(path, kept)
  return max((row["time_s"] for _, row in lines), default=0.0)


def _number(value):
  """The Python number in a scalar array; a number as it is."""
  return value.item() if hasattr(value, "item") else value


def _strict(value):
  """The value, or the string that stands for it where JSON has no such number."""
  if math.isfinite(value):
    return value
  return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
