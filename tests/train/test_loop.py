"""Training loop, with a step that only counts: hooks, stops and the clock."""

import jax
import jax.numpy as jnp

from lm import train
from lm.train import loop

ROOT = jax.random.key(7)


def count_step(state, batch, root):
  loss = jnp.float32("nan") if batch == "nan" else jnp.float32(batch)
  return state + 1, {"train/loss": loss, "train/grad_norm": jnp.float32(1)}


def fit(batches, *, num_steps, **options):
  events = []
  report = lambda n, metrics, seconds, spent: events.append((n, metrics["train/loss"]))
  hook = lambda name, every: train.Hook(
    name, every, lambda n, state: events.append((name, n, int(state)))
  )
  try:
    train.fit(
      jnp.int32(0),
      count_step,
      batches,
      root=ROOT,
      num_steps=num_steps,
      report=report,
      hooks=[hook("eval", 2), hook("checkpoint", 3)],
      **options,
    )
  except train.Diverged as error:
    events.append(str(error))
  return events


def test_metrics_come_one_step_late_but_before_what_depends_on_them():
  assert fit(enumerate([5, 6, 7, 8]), num_steps=4) == [
    (1, 5),
    (2, 6),
    ("eval", 2, 2),
    (3, 7),
    ("checkpoint", 3, 3),
    (4, 8),
    ("eval", 4, 4),
    ("checkpoint", 4, 4),
  ]


def test_a_request_to_stop_saves_and_ends():
  events = fit(enumerate([5, 6, 7, 8]), num_steps=4, stop=lambda n: n == 1)
  assert events == [(1, 5), ("checkpoint", 1, 1)]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved():
  events = fit(enumerate([5, 6, "nan", 8]), num_steps=4)
  assert events == [(1, 5), (2, 6), ("eval", 2, 2), "train/loss is nan at step 3"]


def test_the_seconds_of_a_step_are_without_the_hooks_before_it(monkeypatch):
  """Uses a fake clock: 1 s for a batch, 2 s for a step, 100 s for a hook."""
  now, rows = 0.0, []
  monkeypatch.setattr(loop.time, "perf_counter", lambda: now)

  def work(seconds, result=None):
    nonlocal now
    now += seconds
    return result

  train.fit(
    jnp.int32(0),
    lambda *args: work(2, count_step(*args)),
    (work(1, pair) for pair in enumerate([5, 6, 7, 8])),
    root=ROOT,
    num_steps=4,
    report=lambda n, metrics, seconds, spent: rows.append((seconds, spent)),
    hooks=[train.Hook("eval", 1, lambda n, state: work(100))],
  )
  assert [seconds for seconds, _ in rows] == [3, 3, 3, 3]
  assert [spent.get("time/eval_s") for _, spent in rows] == [None, 100, 100, 100]


def test_the_clock_adds_up():
  clock = loop.Clock()
  with clock("data"):
    pass
  with clock("data"):
    pass
  seconds, spent = clock.read()
  assert list(spent) == ["time/data_s"]
  assert 0 <= spent["time/data_s"] <= seconds
  assert clock.read()[1] == {}
