"""The one training loop: it drives a step over batches, and the hooks after it."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax

FINITE = ("train/loss", "train/grad_norm", "train/param_norm")


class Diverged(FloatingPointError):
  """The loss, the gradient or the parameters are no longer finite."""


@dataclass(frozen=True)
class Hook:
  """A function(updates made, state) -> None, called every `every` updates."""

  name: str  # names its share of the time: "time/<name>_s"
  every: int  # 0 means only at the end
  function: Callable

  def is_due(self, step: int, last: int) -> bool:
    """Returns True if the hook is to run after `step` updates of `last`."""
    return step == last or (self.every > 0 and step % self.every == 0)


class Clock:
  """Measures the seconds spent per activity since they were last read."""

  def __init__(self):
    self.spent_s, self.since = {}, time.perf_counter()

  @contextlib.contextmanager
  def __call__(self, activity):
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    self.spent_s[activity] = self.spent_s.get(activity, 0.0) + seconds

  def read(self, but=()) -> tuple[float, dict]:
    """Returns (seconds but for these activities, {"time/<activity>_s": seconds})."""
    now = time.perf_counter()
    seconds, self.since = now - self.since, now
    seconds -= sum(self.spent_s.get(activity, 0.0) for activity in but)
    spent = {f"time/{name}_s": round(s, 4) for name, s in self.spent_s.items()}
    self.spent_s = {}
    return seconds, spent


def fit(state, step, batches, *, root, num_steps, report, hooks=(), stop=None):
  """Runs `step` over `batches`, and returns the last state.

  Args:
    state: the TrainState to start from; it is donated.
    step: the update, see `make_step`.
    batches: pairs (updates made before, batch).
    root: the run's key.
    num_steps: the number of updates at which the run ends.
    report: report(n, metrics, seconds, spent) gets the metrics after n updates one step
      late, while the device is busy with the next; `seconds` are those of the update
      without the hooks before it, which are in `spent` (the first one compiles).
    hooks: run after their update, in this order.
    stop: stop(n) is called after every update; when it returns True, the hook
      "checkpoint" runs and the loop ends.

  Raises Diverged, which names the step, before a state that is not finite can reach a
  hook: every saved state is finite.
  """
  clock, pending = Clock(), None

  def report_pending():
    """Waits for the metrics of the newest update and reports them, if it was not."""
    nonlocal pending
    if pending is None:
      return
    n, metrics = pending
    with clock("step"):
      metrics = {key: float(value) for key, value in jax.device_get(metrics).items()}
    for key in FINITE:
      if not math.isfinite(metrics.get(key, 0.0)):
        raise Diverged(f"{key} is {metrics[key]} at step {n}")
    report(n, metrics, *clock.read(but={hook.name for hook in hooks}))
    pending = None

  batches = iter(batches)
  while True:
    with clock("data"):
      done, batch = next(batches, (None, None))
    if done is None:
      break
    with clock("step"):
      state, metrics = step(state, batch, root)
    report_pending()
    n, pending = done + 1, (done + 1, metrics)
    is_stopping = stop is not None and n < num_steps and stop(n)
    due = [
      hook
      for hook in hooks
      if hook.is_due(n, num_steps) or (is_stopping and hook.name == "checkpoint")
    ]
    if due:
      report_pending()
    for hook in due:
      with clock(hook.name):
        hook.function(n, state)
    if is_stopping:
      break
  report_pending()
  return state
