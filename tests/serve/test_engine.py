"""The engine: every request gets the tokens that it would get alone and offline."""

import queue
import threading

import fakes
import jax
import numpy as np
import pytest
from families import FAMILIES, MESHES

from lm.generate import decode
from lm.generate.sample import Sampling
from lm.letters import abstract, make_mesh, shardings
from lm.serve.engine import Engine
from lm.serve.requests import Begun, Failed, Full, Request, Written

V, WAIT_S = 61, 120
WARM = Sampling(temperature=1.5, top_p=0.9, frequency_penalty=0.3)
NAMES = ["gpt2", "llama", "gemma", "mamba2", "lstm", "t5"]


class Answer:
  """The events of a request, and what they add up to."""

  def __init__(self, engine, request):
    self._events, self.events = queue.SimpleQueue(), []
    self.ticket = engine.submit(request, self._events.put)

  def next(self):
    self.events.append(self._events.get(timeout=WAIT_S))
    return self.events[-1]

  def wait(self):
    while not isinstance(event := self.next(), Failed):
      if isinstance(event, Written) and event.finish_reason:
        break
    return self

  @property
  def written(self):
    return [event for event in self.events if isinstance(event, Written)]

  @property
  def ids(self):
    return [id for event in self.written for id in event.ids]

  @property
  def reason(self):
    return self.events[-1].finish_reason

  @property
  def cached(self):
    return next(event.cached for event in self.events if isinstance(event, Begun))


@pytest.fixture
def make():
  engines = []

  def engine(*args, **options):
    engines.append(Engine(*args, **options))
    return engines[-1]

  yield engine
  for one in engines:
    one.close(drain_s=0)


def requests_of(family, count, seed=0):
  """Returns requests of every kind, some of them with a source."""
  draw, requests = np.random.default_rng(seed), []
  for number in range(count):
    options = dict(max_tokens=int(draw.integers(1, 9)), seed=number)
    options["ids"] = tuple(draw.integers(0, V, draw.integers(1, 40)).tolist())
    if family.model().traits.source:
      options["ids"] = options["ids"][:1]
      options["source"] = tuple(draw.integers(1, V, draw.integers(1, 12)).tolist())
    if number % 2:
      options["sampling"] = WARM
    if number % 3 == 0:
      options["stops"] = frozenset(draw.integers(0, V, 2).tolist())
    requests.append(Request(**options))
  return requests


def offline(model, params, request):
  options = dict(sampling=request.sampling, seed=request.seed, stops=request.stops)
  if request.source:
    options["sources"] = [request.source]
  prompts, limit = [request.ids], request.max_tokens
  result = decode.generate(model, params, prompts, max_tokens=limit, **options)
  return result.ids_BT[0, : result.lengths_B[0]].tolist(), result.reasons[0]


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_the_request_alone_and_offline(make, name):
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  engine = make(model, params, rows=3, size=48, chunk=16)
  requests = requests_of(family, 12)
  together = [Answer(engine, request) for request in requests]
  together = [answer.wait() for answer in together]
  for request, answer in zip(requests, together, strict=True):
    alone = Answer(engine, request).wait()
    assert (alone.ids, alone.reason) == (answer.ids, answer.reason)
    expected = offline(model, decode.prepare_params(model, params), request)
    assert (answer.ids, answer.reason) == expected
  stats = engine.stats()
  assert (stats.running, stats.waiting) == (0, 0)
  assert stats.written_tokens == 2 * sum(len(answer.ids) for answer in together)


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


def test_a_bias_forbids_and_forces(make):
  model, params = FAMILIES["llama"].model(), FAMILIES["llama"].params()
  engine = make(model, params, rows=2)
  options = dict(ids=(1, 2, 3), max_tokens=5)
  first = Answer(engine, Request(**options)).wait().ids[0]
  banned = Answer(engine, Request(**options, bias=((first, -100.0),))).wait()
  forced = Answer(engine, Request(**options, bias=((7, 100.0),))).wait()
  assert first not in banned.ids
  assert forced.ids == [7] * 5


class Repeat:
  """A language: some ids over and over, and the end after enough of them."""

  def __init__(self, ids, count, end):
    self._left, self._end = list(ids) * count, end

  def allowed(self):
    allowed_V = np.zeros(V, bool)
    allowed_V[self._left[0] if self._left else self._end] = True
    return allowed_V

  def advance(self, id):
    if id != (expected := self._left.pop(0)):
      raise ValueError(f"{id} is not {expected}")


class Broken(Repeat):
  def advance(self, id):
    raise RuntimeError("this language is broken")


def test_a_constraint_holds_the_text_and_a_broken_one_fails_alone(make):
  model, params = FAMILIES["llama"].model(), FAMILIES["llama"].params()
  engine = make(model, params, rows=4)
  options = dict(ids=(1, 2, 3), max_tokens=9)
  free = Answer(engine, Request(**options))
  held = dict(stops=frozenset([9]), sampling=WARM)
  held = Answer(engine, Request(**options, **held, constraint=Repeat([4, 5], 3, 9)))
  broken = Answer(engine, Request(**options, constraint=Broken([4], 3, 9)))
  assert (held.wait().ids, held.reason) == ([4, 5] * 3 + [9], "stop")
  assert broken.wait().events[-1] == Failed(
    "the text could not go on: this language is broken"
  )
  assert free.wait().ids == Answer(engine, Request(**options)).wait().ids


def test_logits_that_are_nan_fail_alone(make):
  """A table with NaN in one row: texts that come there fail, others go on."""
  model = fakes.small(vocab=V)
  params = model.init(scale=1)
  params["table_VV"] = params["table_VV"].at[13].set(np.nan)
  engine = make(model, params, rows=2, size=32)
  poisoned = Answer(engine, Request(ids=(13,), max_tokens=3))
  sound = Answer(engine, Request(ids=(1,), max_tokens=3, bias=((13, -1e9),)))
  assert poisoned.wait().events[-1] == Failed(decode.NAN)
  assert sound.wait().reason == "length"


def test_cancelled_requests_leave_nothing_behind(make):
  model, params = FAMILIES["llama"].model(context=4096), FAMILIES["llama"].params()
  engine = make(model, params, rows=2, size=4096, waiting=1000)
  long = Request(ids=(1, 2, 3), max_tokens=4000)
  answers = [Answer(engine, long) for _ in range(40)]
  while not isinstance(answers[0].next(), Written):
    pass
  for answer in answers:
    answer.ticket.cancel()
  assert {answer.wait().reason for answer in answers} == {"cancelled"}
  short = Answer(engine, Request(ids=(1, 2, 3), max_tokens=4)).wait()
  stats = engine.stats()
  assert (stats.running, stats.waiting) == (0, 0)
  assert stats.finished == {"cancelled": 40, "length": 1}
  assert short.ids == Answer(engine, Request(ids=(1, 2, 3), max_tokens=4)).wait().ids


def test_a_request_that_cannot_be_served_is_refused(make):
  model, params = FAMILIES["llama"].model(), FAMILIES["llama"].params()
  engine = make(model, params, rows=1, size=16, waiting=1)
  refused = [
    (dict(ids=()), "at least one id"),
    (dict(ids=(1,) * 12, max_tokens=5), "do not fit"),
    (dict(top=21), "top must be from 0 to 20, got 21"),
    (dict(stops=frozenset(range(17))), "17 ids end a text; wanted at most 16"),
    (dict(source=(1,)), "no source"),
    (dict(bias=((500, 1.0),)), "a bias is for id 500"),
    (dict(ids=(1, -1)), "an id below 0"),
    (dict(sampling=Sampling(top_p=2)), "top_p must be"),
    (dict(max_tokens=0), "max_tokens must be 1 or more"),
  ]
  for options, message in refused:
    with pytest.raises(ValueError, match=message):
      engine.submit(Request(**(dict(ids=(1,), max_tokens=2) | options)), print)
  with pytest.raises(ValueError, match="writes no text"):
    Engine(FAMILIES["bert"].model(), FAMILIES["bert"].params())


def test_too_many_that_wait_are_refused_and_closing_drains(make):
  model, params = FAMILIES["llama"].model(context=4096), FAMILIES["llama"].params()
  engine = make(model, params, rows=1, size=600, waiting=2)
  answers, refused = [], 0
  for _ in range(6):
    try:
      answers.append(Answer(engine, Request(ids=(1, 2), max_tokens=50)))
    except Full as error:
      refused += 1
      assert "requests are waiting" in str(error)
  assert refused and answers
  closing = threading.Thread(target=engine.close, kwargs=dict(drain_s=WAIT_S))
  closing.start()
  assert {answer.wait().reason for answer in answers} == {"length"}
  closing.join(WAIT_S)
  assert not engine.is_alive()
  with pytest.raises(Full, match="closing"):
    engine.submit(Request(ids=(1,), max_tokens=1), print)


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
def test_a_cache_in_bfloat16_moves_the_numbers_by_its_rounding(make, name):
  family = FAMILIES[name]
  model, params = family.model(scan=False, context=64), family.params(context=64)
  source = dict(source=(5, 6, 7)) if model.traits.source else {}
  ids = (1,) if source else tuple(range(30))
  request = Request(ids=ids, max_tokens=1, top=20, **source)
  [wide], [narrow] = (
    Answer(make(model, params, chunk=16, cache_dtype=dtype), request).wait().written
    for dtype in ("float32", "bfloat16")
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
    Engine(FAMILIES["lstm"].model(), FAMILIES["lstm"].params(), guess=2)


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
