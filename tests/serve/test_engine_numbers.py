"""What makes the engine fast changes no number: prefixes, blocks, guesses, meshes."""

import jax
import numpy as np
import pytest
from answers import WARM, Answer, V, engines, requests_of
from families import FAMILIES, MESHES

from lm.letters import abstract, make_mesh, shardings
from lm.serve.requests import Request, Written

make = pytest.fixture(engines)


@pytest.mark.parametrize("name", ["llama", "mamba2"])
def test_a_prefix_that_was_read_changes_no_bit(make, name):
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  ids = tuple(np.random.default_rng(0).integers(0, V, 40).tolist())
  options = dict(max_tokens=8, top=3)
  cold = make(model, params, rows=2, size=64, chunk=16, prefix_bytes=0)
  warm = make(model, params, rows=2, size=64, chunk=16)
  request = Request(ids=ids, **options)
  answers = [Answer(cold, request).wait(), Answer(warm, request).wait()]
  answers += [Answer(warm, request).wait()]
  salted = Answer(warm, Request(ids=ids, salt="another", **options)).wait()
  shorter = Answer(warm, Request(ids=ids[:20], **options)).wait()
  assert [a.cached for a in (*answers, salted, shorter)] == [0, 0, 32, 0, 16]
  for answer in (*answers, salted):
    assert answer.ids == answers[0].ids
    for one, other in zip(answer.written, answers[0].written, strict=True):
      for left, right in zip(one.scored, other.scored, strict=True):
        np.testing.assert_array_equal(left, right)
  assert warm.stats().cached_tokens == 32 + 16
  assert warm.stats().prefix_bytes > 0


def test_numbers_are_those_of_the_model(make):
  """Log-probabilities of prompt and text equal those of the whole model."""
  family = FAMILIES["llama"]
  model, params = family.model(context=64), family.params(context=64)
  ids = tuple(np.random.default_rng(0).integers(0, V, 21).tolist())
  engine = make(model, params, rows=2, size=64, chunk=16)
  request = Request(ids=ids, max_tokens=5, top=4, prompt_top=2, sampling=WARM)
  answer = Answer(engine, request).wait()
  whole = [*ids, *answer.ids]
  logits_1TV, _ = model.apply({"params": params}, np.array([whole]))
  logprobs_TV = np.asarray(
    logits_1TV[0] - np.logaddexp.reduce(logits_1TV[0], -1)[:, None]
  )
  of_text = [event.scored for event in answer.written]
  parts = [(answer.events[0].scored, 0, 2)]
  parts += [(scored, len(ids) - 1 + n, 4) for n, scored in enumerate(of_text)]
  for scored, start, top in parts:
    for n, logprob in enumerate(scored.logprobs_T):
      place = start + n
      expected = logprobs_TV[place, whole[place + 1]]
      np.testing.assert_allclose(logprob, expected, atol=2e-5)
      best = np.argsort(-logprobs_TV[place])[:top]
      assert scored.top_ids_TO[n].tolist() == best.tolist()
      values = scored.top_logprobs_TO[n]
      np.testing.assert_allclose(values, logprobs_TV[place, best], atol=2e-5)
  assert len(answer.events[0].scored.logprobs_T) == len(ids) - 1


@pytest.mark.parametrize("name", ["llama", "gemma", "lstm"])
def test_how_far_attention_reads_changes_no_bit(make, name, monkeypatch):
  """A row reads blocks as far as the longest one: that shows in no number of it."""
  monkeypatch.setattr("lm.nn.attention.backends.blocks.SIZE", 16)
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=128), family.params(context=128)
  engine = make(model, params, rows=2, size=128, chunk=16)
  source = dict(source=(5, 6, 7)) if model.traits.source else {}
  short = Request(ids=(1, 2, 3), max_tokens=9, top=5, **source)
  long = Request(ids=(1,) * 70, max_tokens=50, **source)
  alone = Answer(engine, short).wait()
  other = Answer(engine, long)
  while not isinstance(other.next(), Written):
    pass
  beside = Answer(engine, short).wait()
  assert other.wait().reason == "length"
  for one, two in zip(alone.written, beside.written, strict=True):
    assert one.ids == two.ids
    for left, right in zip(one.scored, two.scored, strict=True):
      np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", ["llama", "t5"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_narrow_cache_moves_the_numbers_by_its_rounding(make, name, dtype):
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  source = dict(source=(5, 6, 7)) if model.traits.source else {}
  ids = (1,) if source else tuple(range(30))
  request = Request(ids=ids, max_tokens=1, top=20, **source)
  [wide], [narrow] = (
    Answer(make(model, params, chunk=16, cache=dtype), request).wait().written
    for dtype in ("float32", dtype)
  )
  wide = dict(
    zip(wide.scored.top_ids_TO[0], wide.scored.top_logprobs_TO[0], strict=True)
  )
  ids_O, logprobs_O = narrow.scored.top_ids_TO[0], narrow.scored.top_logprobs_TO[0]
  pairs = [(wide[id], x) for id, x in zip(ids_O, logprobs_O, strict=True) if id in wide]
  assert len(pairs) > 15
  np.testing.assert_allclose(*zip(*pairs, strict=True), atol=0.05)
  assert wide[ids_O[0]] != logprobs_O[0]


@pytest.mark.parametrize("name", ["llama", "gemma", "t5"])
def test_guesses_change_no_token(make, name):
  """Greedy texts of tiny models repeat themselves, so that some guesses are right."""
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  requests = [
    Request(**vars(request) | dict(max_tokens=20, ids=request.ids[:30]))
    for request in requests_of(family, 6)
  ]
  written = {}
  for guess in (0, 4):
    engine = make(model, params, rows=3, size=64, chunk=16, guess=guess)
    answers = [Answer(engine, request) for request in requests]
    written[guess] = [(a.wait().ids, a.reason) for a in answers]
    turns = engine.stats().turns
  assert written[0] == written[4]
  assert turns < sum(len(ids) for ids, _ in written[4]) / 2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_guesses_of_a_draft_change_no_token(make, seed):
  """The model as its own draft is always right; another one mostly wrong."""
  family = FAMILIES["llama"]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  draft = params if seed == 0 else jax.tree.map(lambda x: x[..., ::-1], params)
  requests = [
    Request(ids=ids, max_tokens=21, top=2) for ids in [(1, 2, 3), (7,), (9, 8)]
  ]
  answers, turns = {}, {}
  for options in (dict(), dict(guess=3, draft=(model, draft))):
    engine = make(model, params, rows=1, size=64, chunk=16, **options)
    answers[len(options)] = [Answer(engine, request).wait() for request in requests]
    turns[len(options)] = engine.stats().turns
  for plain, guessed in zip(answers[0], answers[2], strict=True):
    assert plain.ids == guessed.ids
    logprobs = [
      np.concatenate([e.scored.logprobs_T for e in a.written]) for a in (plain, guessed)
    ]
    np.testing.assert_allclose(*logprobs, atol=2e-5)
  if seed == 0:
    assert turns[2] <= 3 * (1 + 6)
  with pytest.raises(ValueError, match="cannot take guesses back"):
    make(FAMILIES["lstm"].model(), FAMILIES["lstm"].params(), guess=2)


@pytest.mark.parametrize("axes", ["tensor", "fsdp"])
def test_on_a_mesh_the_tokens_are_the_same(make, axes):
  family = FAMILIES["llama"]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  requests = requests_of(family, 5)
  engine = make(model, params, rows=2, size=48, chunk=16)
  expected = [Answer(engine, request).wait().ids for request in requests]
  mesh = make_mesh(**MESHES[axes])
  shapes, letters = abstract(model, np.zeros((1, 2), np.int32))
  params = jax.device_put(params, shardings(mesh, letters, shapes))
  engine = make(model, params, rows=2, size=48, chunk=16, mesh=mesh)
  assert [Answer(engine, request).wait().ids for request in requests] == expected
