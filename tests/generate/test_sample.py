"""Sampling: filters equal those of `transformers`; draws follow the probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lm.generate import sample
from lm.generate.sample import Sampling

FILTERED = jax.jit(sample.filtered)
CHOOSE = jax.jit(sample.choose)
DRAW = jax.jit(sample.draw)
TOP_K = jax.jit(sample.keep_top_k)
TOP_P = jax.jit(sample.keep_top_p)


def logits(B, V, seed=0, scale=3.0):
  draw = np.random.default_rng(seed)
  return (scale * draw.standard_normal((B, V))).astype(np.float32)


def hf_filtered(logits_BV, **settings):
  """Returns logits filtered by `transformers`, in the order of its `generate`."""
  makers = {
    "temperature": hf.TemperatureLogitsWarper,
    "top_k": hf.TopKLogitsWarper,
    "top_p": hf.TopPLogitsWarper,
    "min_p": hf.MinPLogitsWarper,
  }
  scores = torch.tensor(logits_BV)
  for name, processor in makers.items():
    if name in settings:
      scores = processor(settings[name])(None, scores)
  return scores.numpy()


SETTINGS = [
  dict(temperature=0.7),
  dict(top_k=1),
  dict(top_k=50),
  dict(top_k=200),
  dict(top_k=10_000),
  dict(top_p=0.1),
  dict(top_p=0.9),
  dict(top_p=0.9999),
  dict(min_p=0.05),
  dict(min_p=1.0),
  dict(temperature=1.7, top_k=300, top_p=0.8, min_p=0.02),
  dict(temperature=9.0, top_p=0.97),
  dict(temperature=0.3, top_k=20, top_p=0.5),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_support_and_the_probabilities_are_those_of_transformers(settings):
  logits_BV = logits(6, 501)
  actual_BV = np.asarray(FILTERED(logits_BV, Sampling(**settings).rows(6, 6)))
  expected_BV = hf_filtered(logits_BV, **settings)
  np.testing.assert_array_equal(np.isfinite(actual_BV), np.isfinite(expected_BV))
  actual_BV, expected_BV = (
    np.asarray(jax.nn.softmax(x, axis=1)) for x in (actual_BV, expected_BV)
  )
  np.testing.assert_allclose(actual_BV, expected_BV, rtol=1e-5, atol=1e-9)


def test_the_repetition_penalty_is_that_of_transformers():
  logits_BV, ids_BT = logits(4, 40), np.array([[1, 2, 2], [39, 0, 7], [5] * 3, [8] * 3])
  present_BV = np.zeros((4, 40), bool)
  np.put_along_axis(present_BV, ids_BT, True, axis=1)
  for penalty in (1.0, 1.3, 0.8):
    processor = hf.RepetitionPenaltyLogitsProcessor(penalty)
    expected_BV = processor(torch.tensor(ids_BT), torch.tensor(logits_BV)).numpy()
    actual_BV = sample.penalise(logits_BV, present_BV, jnp.full(4, penalty))
    np.testing.assert_allclose(actual_BV, expected_BV, rtol=1e-6)


def test_rows_have_settings_of_their_own():
  every = Sampling(
    temperature=np.array([1.0, 2.0, 0.5]),
    top_k=np.array([0, 3, 200]),
    top_p=np.array([0.5, 1.0, 0.999]),
    min_p=np.array([0.0, 0.1, 0.0]),
  )
  logits_BV = logits(3, 301)
  actual_BV = np.asarray(FILTERED(logits_BV, every.rows(3, 3)))
  for row in range(3):
    row_settings = Sampling(**{name: value[row] for name, value in vars(every).items()
                      if np.ndim(value)})  # fmt: skip
    alone_BV = np.asarray(FILTERED(logits_BV[row : row + 1], row_settings.rows(1, 1)))
    np.testing.assert_array_equal(actual_BV[row], alone_BV[0])


@given(
  hnp.arrays(
    np.float32,
    (2, 300),
    elements=st.floats(-30, 30, width=32, allow_subnormal=False),
    fill=st.just(0.0),
  ),
  st.integers(1, 300),
  st.floats(1 / 64, 1.0, width=32),
)
def test_what_is_kept_is_a_smallest_top_set(logits_BV, top_k, top_p):
  """Covers ties, too, where `transformers` keeps the token that its sort puts first."""
  kept_BV = np.isfinite(TOP_K(logits_BV, np.full(2, top_k)))
  probs_BV = np.asarray(jax.nn.softmax(logits_BV, axis=1), np.float64)
  for row in range(2):
    worst = np.sort(logits_BV[row])[-top_k]
    np.testing.assert_array_equal(kept_BV[row], logits_BV[row] >= worst)
  top_p_B = np.full(2, top_p, np.float32)
  kept_BV = np.isfinite(TOP_P(logits_BV, top_p_B))
  for row in range(2):
    cut = logits_BV[row][kept_BV[row]].min()
    np.testing.assert_array_equal(kept_BV[row], logits_BV[row] >= cut)
    assert probs_BV[row][kept_BV[row]].sum() >= top_p - 1e-5
    assert probs_BV[row][logits_BV[row] > cut].sum() <= top_p + 1e-5


@pytest.mark.parametrize("V", [1, 2, 7, 64, 1000])
def test_drawn_tokens_follow_the_probabilities(V):
  """Chi-square of 4000 draws is below its 1e-6 quantile, V + 5 sqrt(2 V) + 25."""
  draws = 4000
  logits_BV = np.broadcast_to(logits(1, V, seed=V, scale=1.0), (draws, V))
  keys_B = jax.random.split(jax.random.key(V), draws)
  drawn_B = np.asarray(DRAW(logits_BV, keys_B))
  expected_V = draws * np.asarray(jax.nn.softmax(logits_BV[0]), np.float64)
  counts_V = np.bincount(drawn_B, minlength=V)
  assert counts_V.size == V
  chi = np.sum((counts_V - expected_V) ** 2 / expected_V)
  assert chi < V + 5 * np.sqrt(2 * V) + 25


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 17, 400]))
def test_a_forbidden_token_is_never_drawn(seed, V):
  draw = np.random.default_rng(seed)
  logits_BV = draw.standard_normal((8, V)).astype(np.float32)
  logits_BV[draw.random((8, V)) < 0.9] = -np.inf
  logits_BV[:, draw.integers(V)] = -80.0  # rare, but allowed
  drawn_B = DRAW(logits_BV, jax.random.split(jax.random.key(seed), 8))
  assert np.isfinite(
    np.take_along_axis(logits_BV, np.asarray(drawn_B)[:, None], 1)
  ).all()


@given(
  hnp.arrays(np.float32, (3, 17), elements=st.sampled_from([-1.0, 0.0, 2.5, -np.inf]))
)
def test_greedy_is_argmax_the_first_of_equals(logits_BV):
  np.testing.assert_array_equal(sample.best(logits_BV), np.argmax(logits_BV, axis=1))


def test_temperature_0_is_greedy_and_ends_no_filter_early():
  logits_BV, seen_BV = logits(4, 90), np.zeros((4, 90), bool)
  past = dict(seen_BV=seen_BV, counts_BV=np.zeros((4, 90), np.int32))
  keys_B = jax.random.split(jax.random.key(0), 4)
  mixed = Sampling(temperature=np.array([0.0, 1.0, 0.0, 1.0]), top_k=2)
  for s in (mixed, Sampling(temperature=0.0, top_p=0.1)):
    chosen_B = np.asarray(CHOOSE(logits_BV, keys_B, s.rows(4, 4), **past))
    greedy_B = np.argmax(logits_BV, axis=1)
    cold_B = np.broadcast_to(np.asarray(s.temperature) == 0, (4,))
    np.testing.assert_array_equal(chosen_B[cold_B], greedy_B[cold_B])
  seen_BV[0, greedy_B[0]] = True
  strict = Sampling(temperature=0.0, repetition_penalty=1e6).rows(4, 4)
  chosen_B = np.asarray(CHOOSE(logits_BV, keys_B, strict, **past))
  assert chosen_B[0] == np.argsort(logits_BV[0])[-2]
  np.testing.assert_array_equal(chosen_B[1:], greedy_B[1:])


def test_penalties_of_presence_and_frequency_are_those_of_the_api():
  """A count c takes presence + c * frequency from a logit, in each row its own."""
  logits_BV = logits(3, 30)
  counts_BV = np.random.default_rng(1).integers(0, 3, (3, 30))
  presence_B, frequency_B = np.array([0.5, 0.0, -1.0]), np.array([0.25, 2.0, 0.0])
  s = Sampling(presence_penalty=presence_B, frequency_penalty=frequency_B).rows(3, 3)
  expected_BV = logits_BV - np.where(counts_BV > 0, presence_B[:, None], 0)
  expected_BV = expected_BV - counts_BV * frequency_B[:, None]
  actual_BV = sample.subtract(logits_BV, counts_BV, s)
  np.testing.assert_allclose(actual_BV, expected_BV, rtol=1e-5)


@pytest.mark.parametrize("name, value, expected", [
  ("temperature", -0.1, "0 (greedy) or more"),
  ("temperature", float("nan"), "0 (greedy) or more"),
  ("top_k", -1, "0 (off) to 2"),
  ("top_k", 2.5, "0 (off) to 2"),
  ("top_p", 0.0, "above 0, at most 1"),
  ("top_p", 1.1, "above 0, at most 1"),
  ("min_p", -1.0, "from 0 (off) to 1"),
  ("repetition_penalty", 0.0, "above 0"),
  ("presence_penalty", 2.5, "from -2 to 2"),
  ("frequency_penalty", float("nan"), "from -2 to 2"),
])  # fmt: skip
def test_a_setting_without_sense_is_named(name, value, expected):
  with pytest.raises(ValueError) as error:
    sample.validate(Sampling(**{name: value}))
  assert str(error.value).startswith(f"{name} must be {expected}")
  assert str(value) in str(error.value)
