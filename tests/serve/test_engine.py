"""The engine: every request gets the tokens that it would get alone and offline."""

import threading

import fakes
import numpy as np
import pytest
from answers import WAIT_S, WARM, Answer, V, engines, offline, requests_of
from families import FAMILIES

from lm.generate import decode
from lm.generate.sample import Sampling
from lm.serve.engine import Engine
from lm.serve.requests import Failed, Full, Request, Written

make = pytest.fixture(engines)
NAMES = ["gpt2", "llama", "gemma", "mamba2", "lstm", "t5"]


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
