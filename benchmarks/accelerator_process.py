"""Side of a benchmark: a process that computes its next result on request."""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

# Two processes share the device's memory: neither may take most of it at its start.
SETTINGS = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
END = {"end": True}
MARK = "result: "  # begins a line of ours; other lines are what libraries print


class Failure(Exception):
  """Error of a side that ended, or did not answer in time."""


class Side:
  """Process `python -m module arguments`, which calls `serve`; __exit__ ends it."""

  def __init__(self, module: str, *arguments: str):
    self.title = " ".join([module.rpartition(".")[2], *arguments])
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
    self._process = subprocess.Popen(
      [sys.executable, "-m", module, *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      env=os.environ | SETTINGS,
    )
    self._lines = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self):
    """Queues the results, then None when the process has ended."""
    for line in self._process.stdout:
      if line.startswith(MARK):
        self._lines.put(json.loads(line.removeprefix(MARK)))
    self._lines.put(None)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._process.kill()
    self._process.wait()
    with contextlib.suppress(BrokenPipeError):  # a request that nobody has read
      self._process.stdin.close()
    self._errors.close()

  def request(self):
    """Requests the next result, without waiting for it."""
    try:
      self._process.stdin.write("next\n")
      self._process.stdin.flush()
    except BrokenPipeError as e:
      raise Failure(f"{self.title} ended: {self._last_error()}") from e

  def answer(self, deadline: float) -> dict:
    """Returns the requested result; raises Failure past the deadline (monotonic)."""
    try:
      result = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
      raise Failure(f"{self.title} was not done in time") from None
    if result is None:
      raise Failure(f"{self.title} ended: {self._last_error()}")
    return result

  def next(self, deadline: float) -> dict:
    """Requests the next result and waits for it."""
    self.request()
    return self.answer(deadline)

  def results(self, deadline: float):
    """Yields all results, one after the other."""
    while (result := self.next(deadline)) != END:
      yield result

  def _last_error(self) -> str:
    """Returns the line of stderr that names the exception, or else the last line."""
    self._process.wait()
    self._errors.seek(0)
    lines = [line.strip() for line in self._errors if line.strip()]
    named = [
      line for line in lines if re.match(r"[\w.]+(Error|Mistake|Failure)\b", line)
    ]
    return (named or lines or [f"exit code {self._process.returncode}"])[-1]


def serve(results):
  """Prints the next of `results`, an iterator of dicts, for each line of stdin."""
  for _ in sys.stdin:
    print(MARK + json.dumps(next(results, END)), flush=True)


def summary(problem: Exception) -> str:
  """Returns the type and the first line of an exception."""
  lines = str(problem).splitlines()
  return ": ".join([type(problem).__name__, *lines[:1]])
