import math

import numpy as np
import pytest

from lm import evaluate, metrics


def test_many_small_losses_do_not_drift():
  step = lambda params, batch: {"loss": np.float32(0.1), "weight": np.float32(1)}
  found = evaluate.evaluate(step, None, range(10_000))
  assert found["eval/nats_per_token"] == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_batches_count_by_their_weights():
  sums = [{"loss": 8.0, "weight": 1.0}, {"loss": 1.0, "weight": 2.0}]
  found = evaluate.evaluate(lambda params, batch: batch, None, sums)
  assert found["eval/nats_per_token"] == 3


def test_language_reports_what_there_is():
  sums = {"loss": 8.0, "weight": 4.0}
  assert metrics.language(sums) == {"nats_per_token": 2, "perplexity": math.exp(2)}
  sums |= {"correct": 1.0, "byte_nats": 16 * math.log(2), "bytes": 8}
  report = metrics.language(sums)
  assert report["accuracy"] == 0.25
  assert report["bits_per_byte"] == pytest.approx(2)


def test_a_uniform_model_over_bytes_has_eight_bits_per_byte():
  assert metrics.bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)


def test_an_absurd_perplexity_is_infinite_not_an_error():
  assert metrics.perplexity(1e4) == math.inf


def test_nothing_counted_is_said():
  with pytest.raises(ValueError, match="nats per token is over nothing"):
    metrics.language({"loss": 0.0, "weight": 0.0})


def test_entropy_is_that_of_the_shares():
  assert metrics.entropy([5, 0, 5, 5, 5]) == pytest.approx(math.log(4))
  assert metrics.entropy([7]) == 0
