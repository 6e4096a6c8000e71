"""Decoding loop: rows do not depend on their batch, the padding or the pieces."""

import functools

import fakes
import jax
import numpy as np
import pytest
from families import CONTEXT, FAMILIES, MESHES
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.generate import decode
from lm.generate.prompts import bucket
from lm.generate.sample import Sampling
from lm.letters import abstract, make_mesh, shardings

V = 11
MODEL = fakes.small(vocab=V)
PARAMS = MODEL.init(scale=1)
BROKEN = {"table_VV": PARAMS["table_VV"] * np.nan}
PROMPT = st.lists(st.integers(0, V - 1), min_size=1, max_size=16)
WARM = Sampling(temperature=3.0, top_p=0.95, repetition_penalty=1.1)


def greedy_reference(model, params, prompt, count):
  """Returns the greedy continuation without cache or loop."""
  ids = list(prompt)
  for _ in range(count):
    tokens_BT = np.array([ids + [0] * (CONTEXT - len(ids))], np.int32)
    ids.append(int(whole(model, params, tokens_BT)[0, len(ids) - 1].argmax()))
  return ids[len(prompt) :]


@functools.partial(jax.jit, static_argnums=0)
def whole(model, params, tokens_BT):
  x_BTD, *_ = model.apply({"params": params}, tokens_BT, method="features")
  return model.apply({"params": params}, x_BTD, method="readout")


def rows(result):
  return [
    ids[:n].tolist() for ids, n in zip(result.ids_BT, result.lengths_B, strict=True)
  ]  # fmt: skip


@pytest.mark.parametrize(
  "name, scan",
  [
    ("fake", True),
    ("gpt2", True),
    ("gpt2", False),
    ("window", False),
    ("lstm", False),
    ("mamba2", True),
  ],
)
def test_greedy_is_the_argmax_of_the_whole_model(name, scan):
  model, params, size = MODEL, PARAMS, V
  if name != "fake":
    family = FAMILIES[name]
    model, params, size = family.model(scan=scan), family.params(), 61
  draw = np.random.default_rng(0)
  prompts = [draw.integers(0, size, n).tolist() for n in (1, 7, 4)]
  result = decode.generate(
    model, decode.prepare_params(model, params), prompts, max_tokens=8
  )
  assert rows(result) == [greedy_reference(model, params, p, 8) for p in prompts]
  assert result.reasons == ("length",) * 3


@settings(max_examples=20)
@given(
  st.sampled_from([2, 5]).flatmap(lambda n: st.lists(PROMPT, min_size=n, max_size=n)),
  st.integers(0, 99),
  st.sampled_from([1, 3]),
)
def test_a_row_alone_is_the_row_in_a_batch(prompts, seed, n):
  options = dict(max_tokens=9, sampling=WARM, seed=seed, stops=[3], logprobs=True, n=n)
  together = decode.generate(MODEL, PARAMS, prompts, **options)
  for i, prompt in enumerate(prompts):
    alone = decode.generate(MODEL, PARAMS, [prompt], **options)
    own_rows = slice(i * n, (i + 1) * n)
    assert rows(alone) == rows(together)[own_rows]
    assert alone.reasons == together.reasons[own_rows]
    np.testing.assert_array_equal(alone.logprobs_BT, together.logprobs_BT[own_rows])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_row_of_a_real_model_is_the_same_in_every_batch(name):
  family = FAMILIES[name]
  model, params = family.model(), family.params()
  draw = np.random.default_rng(1)
  prompts = [draw.integers(0, 61, n).tolist() for n in (3, 8, 1, 5, 2)]
  options = dict(max_tokens=8, sampling=Sampling(temperature=1.5, top_k=40), seed=7)
  together = rows(decode.generate(model, params, prompts, **options))
  for prompt, expected in zip(prompts, together, strict=True):
    assert rows(decode.generate(model, params, [prompt], **options)) == [expected]


def test_on_a_mesh_the_tokens_are_the_same():
  model, params = FAMILIES["llama"].model(), FAMILIES["llama"].params()
  prompts, options = [[3, 4, 5], [7]], dict(max_tokens=6, sampling=WARM)
  expected = rows(decode.generate(model, params, prompts, **options))
  mesh = make_mesh(**MESHES["tensor"])
  shapes, letters = abstract(model, np.zeros((1, 2), np.int32))
  params = jax.device_put(params, shardings(mesh, letters, shapes))
  with jax.set_mesh(mesh):
    assert rows(decode.generate(model, params, prompts, **options)) == expected


def test_wider_buckets_change_no_token(monkeypatch):
  prompts, options = [[1, 2, 3], [9, 4]], dict(max_tokens=7, sampling=WARM, n=2)
  expected = rows(decode.generate(MODEL, PARAMS, prompts, **options))
  wider = lambda size, smallest=16: bucket(size, smallest) * 4
  monkeypatch.setattr("lm.generate.decode.bucket", wider)
  monkeypatch.setattr("lm.generate.prompts.bucket", wider)
  assert rows(decode.generate(MODEL, PARAMS, prompts, **options)) == expected


@settings(max_examples=20)
@given(
  st.lists(PROMPT, min_size=2, max_size=2), st.lists(st.integers(1, 6), max_size=9)
)
def test_pieces_of_any_size_give_the_same_tokens(prompts, steps):
  options = dict(max_tokens=12, sampling=WARM, stops=[5], logprobs=True)
  expected = decode.generate(MODEL, PARAMS, prompts, **options)
  slots = decode.start(MODEL, PARAMS, prompts, **options)
  for count in [*steps, 12]:
    slots = decode.advance(MODEL, PARAMS, slots, count)
  actual = decode.read(slots, len(prompts))
  assert rows(actual) == rows(expected)
  assert actual.reasons == expected.reasons
  np.testing.assert_array_equal(actual.logprobs_BT, expected.logprobs_BT)


def test_new_prompts_and_settings_compile_nothing():
  model = fakes.small(vocab=17)  # a size that no other test compiles
  params = model.init(scale=1)
  decode.generate(model, params, [[1, 2, 3]] * 2, max_tokens=5)
  before = len(fakes.TRACES)
  assert before
  warm = Sampling(0.5, top_k=7, top_p=0.5, min_p=0.1, repetition_penalty=1.2)
  for prompt, count, options in [
    ([4] * 16, 16, dict(seed=5, stops=[1])),
    ([9], 1, dict(sampling=warm, stops=[2, 3])),
    ([7, 8], 11, dict(sampling=Sampling(top_k=3), logprobs=True, seed=2**40)),
  ]:
    decode.generate(model, params, [prompt, [1]], max_tokens=count, **options)
  assert len(fakes.TRACES) == before
  decode.generate(model, params, [[1] * 17, [1]], max_tokens=5)
  assert len(fakes.TRACES) > before


def test_the_loop_moves_nothing_to_the_host_and_ends_early():
  model = fakes.small(fakes.ScriptModel, vocab=V)
  params = model.init([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  slots = decode.start(model, params, [[0], [0, 0, 0]], max_tokens=10, stops=[7])
  with jax.transfer_guard_device_to_host("disallow"):
    slots = decode.advance(model, params, slots, 10)
  assert slots.done_B.tolist() == [True, True]
  result = decode.read(slots, 2)
  assert rows(result) == [[1, 2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7]]
  assert result.reasons == ("stop", "stop")


def test_every_row_has_its_own_limit():
  result = decode.generate(
    MODEL, PARAMS, [[1], [1], [1]], max_tokens=np.array([2, 9, 1])
  )
  assert result.lengths_B.tolist() == [2, 9, 1]
  assert rows(result)[1][:2] == rows(result)[0]
  assert result.reasons == ("length",) * 3


def test_samples_differ_and_a_seed_repeats_them():
  model = fakes.small(fakes.UniformModel, vocab=V)
  params = model.init()
  options = dict(max_tokens=16, n=4, sampling=Sampling())
  first = rows(decode.generate(model, params, [[1], [2]], seed=1, **options))
  repeated = rows(decode.generate(model, params, [[1], [2]], seed=1, **options))
  reseeded = rows(decode.generate(model, params, [[1], [2]], seed=2, **options))
  assert first == repeated
  assert len({tuple(row) for row in first[:4]}) == 4
  assert not {tuple(row) for row in first} & {tuple(row) for row in reseeded}


def test_logprobs_are_the_models_own():
  family = FAMILIES["llama"]
  model, params = family.model(), family.params()
  prompt = [5, 6, 7]
  result = decode.generate(
    model, params, [prompt], max_tokens=6, logprobs=True, sampling=WARM, seed=3
  )
  whole_BT = np.array([prompt + rows(result)[0]])
  logits_BTV, _ = model.apply({"params": params}, whole_BT)
  logprobs_TV = jax.nn.log_softmax(logits_BTV[0, len(prompt) - 1 : -1])
  expected_T = np.take_along_axis(
    np.asarray(logprobs_TV), whole_BT[0, 3:, None], axis=1
  )[:, 0]
  np.testing.assert_allclose(result.logprobs_BT[0, :6], expected_T, atol=2e-5)


def test_a_penalty_counts_the_prompt_and_new_tokens():
  liking_V = np.array([0, 5, 4, 3] + [0] * (V - 4), np.float32)
  params = {"table_VV": np.broadcast_to(liking_V, (V, V))}
  halved = Sampling(temperature=0.0, repetition_penalty=2.0)
  result = decode.generate(
    MODEL, params, [[0], [1], [2]], max_tokens=3, sampling=halved
  )
  assert rows(result) == [[1, 2, 3], [2, 3, 1], [1, 3, 1]]


def test_mistakes_are_one_line():
  model = fakes.small(vocab=V, context=10)
  with pytest.raises(ValueError, match="7 tokens and max_tokens=4 do not fit"):
    decode.start(model, PARAMS, [[1], [1] * 7], max_tokens=4)
  with pytest.raises(ValueError, match="context of 10; shorten the prompt"):
    decode.start(model, PARAMS, [[1] * 10], max_tokens=4)
  assert decode.generate(model, PARAMS, [[1] * 7], max_tokens=3).lengths_B == [3]
  with pytest.raises(ValueError, match="at least one id"):
    decode.start(model, PARAMS, [[1], []], max_tokens=4)
  with pytest.raises(ValueError, match="max_tokens must be 1 or more, got 0"):
    decode.start(model, PARAMS, [[1]], max_tokens=0)
  with pytest.raises(ValueError, match="n must be 1 or more"):
    decode.start(model, PARAMS, [[1]], max_tokens=1, n=0)
  with pytest.raises(ValueError, match="logits are NaN"):
    decode.generate(MODEL, BROKEN, [[1]], max_tokens=2)


def test_buckets_hold_their_size_and_waste_little():
  for size in range(1, 5000):
    assert size <= bucket(size) <= max(16, 1.5 * size)
    assert size <= bucket(size, 1) <= 1.5 * size
