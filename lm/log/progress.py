"""How far a run is: a bar on a terminal, a line now and then in a file."""

import sys
import time

# A line follows the one before after 10 s, or after 5 % of the run's time once that is
# more: about 30 lines for five minutes, 90 for an hour, 150 for a day.
LINE_S, LINE_SHARE = 10, 0.05


class Bar:
  """A tqdm bar on stderr, with rate and time left."""

  def __init__(self, start: int, total: int | None):
    from tqdm import tqdm

    self._tqdm = tqdm(
      initial=start, total=total, unit="step", dynamic_ncols=True, smoothing=0.1
    )

  def progress(self, step: int, shown: dict):
    if shown:
      self._tqdm.set_postfix_str(_text(shown), refresh=False)
    self._tqdm.update(step - self._tqdm.n)

  def say(self, line: str):
    self._tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()

  def close(self):
    self._tqdm.close()


class Lines:
  """Plain lines on stderr, for a file or a pipe: the first step, then now and then."""

  def __init__(self, start: int, total: int | None):
    self._total, self._step, self._values = total, start, {}
    self._start_s = time.monotonic()
    self._shown = self._shown_s = None  # step and time of the line before
    self._next_s = 0.0

  def progress(self, step: int, shown: dict):
    self._step, self._values = step, shown
    now_s = time.monotonic()
    if now_s >= self._next_s:
      self._show(now_s)
      self._next_s = now_s + max(LINE_S, LINE_SHARE * (now_s - self._start_s))

  def say(self, line: str):
    print(line, flush=True)

  def close(self):
    if self._values and self._step != self._shown:
      self._show(time.monotonic())

  def _show(self, now_s):
    parts = [f"step {self._step}" + (f"/{self._total}" if self._total else "")]
    if self._values:
      parts.append(_text(self._values))
    # No rate in the first line: the first step also compiled.
    if self._shown is not None and self._step > self._shown:
      step_s = (now_s - self._shown_s) / (self._step - self._shown)
      parts.append(f"{1 / step_s:.3g} steps/s")
      if self._total:
        parts.append(f"{_clock((self._total - self._step) * step_s)} left")
    self._shown, self._shown_s = self._step, now_s
    print("  ".join(parts), file=sys.stderr, flush=True)


def _text(shown: dict) -> str:
  return "  ".join(f"{name} {_short(value)}" for name, value in shown.items())


def _short(value) -> str:
  if isinstance(value, float) and abs(value) < 1000:
    return f"{value:.4g}"
  return f"{value:,.0f}"


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
