"""Metrics: float64 sums, one division, no value for a weight of 0."""

import math

import numpy as np
import pytest

from lm import evaluate, metrics
from lm.errors import Mistake


def evaluated(batches):
  return evaluate.evaluate(lambda params, batch, given: batch, None, batches)


def test_many_small_losses_do_not_drift():
  pair = np.float32(0.1), np.float32(1)
  results = evaluated({"loss": pair} for _ in range(10_000))
  assert results["eval/loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_batches_count_by_their_weights():
  sums = [{"loss": (8.0, 1.0), "hits": (1, 2)}, {"loss": (1.0, 2.0), "hits": (2, 2)}]
  assert evaluated(sums) == {"eval/loss": 3, "eval/hits": 0.75}


def test_names_are_the_objectives_own_and_perplexity_is_derived():
  pairs = {"loss": (8.0, 4.0), "nats_per_token": (8.0, 4.0), "anything": (1.0, 4.0)}
  expected = {"loss": 2, "nats_per_token": 2, "anything": 0.25}
  assert metrics.means(pairs) == expected | {"perplexity": math.exp(2)}


def test_results_are_read_one_batch_late():
  """Checks that the next batch is dispatched before the last one is read."""
  events = []

  class Result(np.ndarray):
    def __array__(self, *args, **kwargs):
      events.append("read")
      return np.asarray(1.0)

  def step(params, batch, given):
    events.append(f"dispatch {batch}")
    return {"loss": (np.zeros(()).view(Result), 1.0)}

  evaluate.evaluate(step, None, range(3))
  dispatched = [e for e in events if e.startswith("dispatch")]
  assert dispatched == [f"dispatch {i}" for i in range(3)]


def test_an_absurd_perplexity_is_infinite_not_an_error():
  assert metrics.perplexity(1e4) == math.inf


def test_nothing_counted_is_a_mistake():
  with pytest.raises(Mistake, match="the loss is over nothing"):
    metrics.means({"loss": (0.0, 0.0)})
  with pytest.raises(Mistake, match="the loss is over nothing"):
    evaluated([])


def test_a_pair_without_weight_is_left_out():
  assert metrics.means({"loss": (1.0, 1.0), "rare": (0.0, 0.0)}) == {"loss": 1.0}


def test_entropy_is_that_of_the_shares():
  assert metrics.entropy([5, 0, 5, 5, 5]) == pytest.approx(math.log(4))
  assert metrics.entropy([7]) == 0
