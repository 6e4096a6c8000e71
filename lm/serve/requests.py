"""Requests of the engine and the events that answer them: ids alone, no text."""

import collections
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from lm.errors import Mistake
from lm.generate.sample import Sampling


class Constraint(Protocol):
  """A language that a text is held to, such as a regular expression's."""

  def allowed(self) -> np.ndarray:
    """Returns allowed_V: True for ids that may come next; those that end it too."""

  def advance(self, id: int) -> None:
    """Takes the id that came next."""


@dataclass(frozen=True, kw_only=True)
class Request:
  """One text to write: the ids before it, and how its own are chosen.

  Its tokens depend on these fields and on nothing else that the engine does.
  """

  ids: tuple[
    int, ...
  ]  # of the prompt, one at least; what an encoder-decoder starts from
  max_tokens: int
  source: tuple[int, ...] | None = None  # what an encoder-decoder reads
  forced: tuple[int | None, int | None] = (
    None,
    None,
  )  # the first id, that of the limit
  sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
  seed: int = 0
  sample: int = 0  # of several texts with one seed: each draws numbers of its own
  stops: frozenset[int] = frozenset()  # ids that end it
  bias: tuple[tuple[int, float], ...] = ()  # (id, what is added to its logit)
  constraint: Constraint | None = None
  top: int | None = None  # likeliest ids to report with each token; None: no numbers
  prompt_top: int | None = None  # the same for the tokens of the prompt
  salt: str = ""  # prefixes are shared with requests of the same salt alone


class Scored(NamedTuple):
  """The log-probabilities of T tokens under the model itself, before any setting."""

  logprobs_T: np.ndarray
  top_ids_TO: np.ndarray  # the likeliest first
  top_logprobs_TO: np.ndarray


class Begun(NamedTuple):
  """The first event: the prompt has been read."""

  cached: int  # tokens of it that the engine had read before
  scored: Scored | None  # of its tokens but the first, if they were wanted


class Written(NamedTuple):
  """More ids of the text, at least one but in the last event."""

  ids: tuple[int, ...]  # the id that ended the text included
  scored: Scored | None
  finish_reason: str | None  # None before the last event; "stop", "length", "cancelled"


class Failed(NamedTuple):
  """The last event of a request that could not be finished."""

  reason: str  # one line


Event = Begun | Written | Failed


class Full(Mistake):
  """The refusal of a request for which there is no room now."""


@dataclass
class Stats:
  """Numbers of an engine: of now, and since it began."""

  rows: int
  running: int = 0
  waiting: int = 0
  prompt_tokens: int = 0
  cached_tokens: int = 0  # of those, the ones that were not read again
  written_tokens: int = 0
  turns: int = 0
  prefix_bytes: int = 0
  finished: collections.Counter = field(default_factory=collections.Counter)


class Ticket:
  """A request's place in an engine."""

  def __init__(self, request: Request, on_event):
    self.request, self.on_event = request, on_event
    self.is_cancelled = False

  def cancel(self):
    """Ends the request soon, with a last event "cancelled"; more than once is once."""
    self.is_cancelled = True
