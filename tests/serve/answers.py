"""Requests of every kind, their events, and the same texts written offline."""

import dataclasses
import queue

import numpy as np

from lm.generate import decode
from lm.generate.sample import Sampling
from lm.serve.engine import Engine
from lm.serve.requests import Begun, Failed, Request, Written
from lm.serve.settings import Settings

V, WAIT_S = 61, 120
SETTINGS = {field.name for field in dataclasses.fields(Settings)} - {"draft"}
WARM = Sampling(temperature=1.5, top_p=0.9, frequency_penalty=0.3)


def engines():
  """Yields what makes engines with some settings, which are closed after the test."""
  made = []

  def engine(*args, **options):
    values = {name: options.pop(name) for name in SETTINGS & options.keys()}
    made.append(Engine(*args, settings=Settings(**values), **options))
    return made[-1]

  yield engine
  for one in made:
    one.close(drain_s=0)


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
