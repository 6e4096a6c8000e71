"""Progress of long work on stderr: a bar on a terminal, plain lines in a file or pipe.

for batch in progress(loader.prefetch(range(20)), total=20, unit="batch"):
  ...
"""

import contextlib
import sys
import time

# Seconds between two lines: 10, or 5 % of the elapsed time once that is more. Five
# minutes give about 30 lines, an hour 90, a day 150.
LINE_S, LINE_SHARE = 10, 0.05


def progress(items, *, total=None, unit="step", size=None, label=""):
  """Yields the items, showing how many are done, the rate and the time left.

  An item is done when the next one is requested. `total` is the number of units at the
  end; len(items) by default, and unknown (no time left is shown) where items have no
  length. `size(item)` is the number of units in an item, 1 by default: shards can be
  counted in documents. `label` names the work when there are several parts of it.
  """
  if total is None and size is None and hasattr(items, "__len__"):
    total = len(items)
  done = 0
  with contextlib.closing(display(0, total, unit=unit, label=label)) as shown:
    for item in items:
      yield item
      done += size(item) if size else 1
      shown.update(done)


def display(start: int, total: int | None, *, unit="step", label=""):
  """A Bar if stderr is a terminal, else Lines; both count from `start` to `total`."""
  kind = Bar if sys.stderr.isatty() else Lines
  return kind(start, total, unit=unit, label=label)


class Bar:
  """A tqdm bar on stderr, with rate and time left; `total` may be None (unknown)."""

  def __init__(self, start: int, total: int | None, *, unit="step", label=""):
    from tqdm import tqdm

    self._bar = tqdm(
      desc=label or None,
      initial=start,
      total=total,
      unit=unit,
      dynamic_ncols=True,
      smoothing=0.1,
    )

  def update(self, done: int, values: dict | None = None):
    """Shows that `done` units are done, and values such as {"loss": 3.21}."""
    if values:
      self._bar.set_postfix_str(_values_text(values), refresh=False)
    self._bar.update(done - self._bar.n)

  def say(self, line: str):
    """Prints a line to stdout, above the bar."""
    self._bar.write(line, file=sys.stdout)
    sys.stdout.flush()

  def close(self):
    """Leaves the bar as it is and ends its line."""
    self._bar.close()


class Lines:
  """Plain lines on stderr: the first unit, some between (see LINE_S), the last."""

  def __init__(self, start: int, total: int | None, *, unit="step", label=""):
    self._total, self._unit, self._label = total, unit, label
    self._done, self._values = start, {}
    self._start_s = time.monotonic()
    self._shown = self._shown_s = None  # units and time of the line before
    self._next_s = 0.0

  def update(self, done: int, values: dict | None = None):
    """As `Bar.update`; prints a line when the next one is due."""
    self._done, self._values = done, values or {}
    now_s = time.monotonic()
    if now_s >= self._next_s:
      self._print_line(now_s)
      self._next_s = now_s + max(LINE_S, LINE_SHARE * (now_s - self._start_s))

  def say(self, line: str):
    """Prints a line to stdout."""
    print(line, flush=True)

  def close(self):
    """Prints the last units, unless the line before already had them."""
    if self._shown not in (None, self._done):
      self._print_line(time.monotonic())

  def _print_line(self, now_s):
    count = f"{self._unit} {self._done}" + (f"/{self._total}" if self._total else "")
    parts = [f"{self._label}: {count}" if self._label else count]
    if self._values:
      parts.append(_values_text(self._values))
    # No rate in the first line: the first step also compiled.
    if self._shown is not None and self._done > self._shown:
      unit_s = (now_s - self._shown_s) / (self._done - self._shown)
      parts.append(f"{1 / max(unit_s, 1e-9):.3g} {_plural(self._unit)}/s")
      if self._total:
        parts.append(f"{_clock((self._total - self._done) * unit_s)} left")
    self._shown, self._shown_s = self._done, now_s
    print("  ".join(parts), file=sys.stderr, flush=True)


def _values_text(values: dict) -> str:
  return "  ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value) -> str:
  if isinstance(value, float) and abs(value) < 1000:
    return f"{value:.4g}"
  return f"{value:,.0f}"


def size_text(num_bytes: float) -> str:
  """Returns a size as people write it: "31.2 MB"."""
  for unit in ("bytes", "kB", "MB", "GB"):
    if num_bytes < 1000:
      break
    num_bytes, unit = num_bytes / 1000, "TB"
  return f"{num_bytes:.3g} {unit}"


def counted(number: int, unit: str) -> str:
  """Returns "1 step", "1,650 steps"."""
  return f"{number:,} {unit if number == 1 else _plural(unit)}"


def _plural(unit: str) -> str:
  return unit + ("es" if unit.endswith(("s", "x", "ch", "sh")) else "s")


def _clock(seconds: float) -> str:
  """ "h:mm:ss", or "m:ss" below an hour."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
