"""Texts to write as requests of the engine, and what it makes of them.

    run = Run(engine, tokenizer, job)
    try:
      async for piece in run: ...
    finally:
      run.close()

Sample i of a prompt draws as in `lm.generate`, so that the texts are the same.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from lm.errors import Mistake
from lm.generate.sample import Sampling
from lm.serve.requests import Begun, Constraint, Failed, Request
from lm.serve.texts import Piece, Text


class Broken(RuntimeError):
  """A text that the engine could not finish."""


class Stopped(Broken):
  """A text that the engine did not finish, for it had to end."""


@dataclasses.dataclass(frozen=True)
class Prompt:
  """The ids of a prompt, as `lm.generate.prompts.as_sources` makes them of one."""

  ids: tuple[int, ...]
  source: tuple[int, ...] | None = None
  forced: tuple[int | None, int | None] = (None, None)

  @property
  def size(self) -> int:
    """The tokens of a client's prompt."""
    return len(self.ids if self.source is None else self.source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """Texts that a client wants: `draws` of each prompt, of which `n` are the best."""

  prompts: tuple[Prompt, ...]
  max_tokens: int | None = None  # None: as many as there is room for
  sampling: Sampling = dataclasses.field(default_factory=Sampling)
  n: int = 1
  draws: int = 1
  seed: int = 0
  stop: tuple[str, ...] = ()
  ends: frozenset[int] = frozenset()  # ids that end a text
  bias: tuple[tuple[int, float], ...] = ()
  constraint: Callable[[], Constraint] | None = None
  top: int | None = None  # likeliest ids with each token; None: no numbers
  echo: bool = False  # the prompts begin the texts
  salt: str = ""

  def requests(self, size: int) -> list[Request]:
    """Returns the requests of an engine that holds `size` tokens of a text.

    They are ordered by prompt, then sample. Raises Mistake for a prompt too long.
    """
    return [
      self._request(prompt, sample, size)
      for prompt in self.prompts
      for sample in range(self.draws)
    ]

  def _request(self, prompt: Prompt, sample: int, size: int) -> Request:
    room = size - len(prompt.ids)
    limit = room if self.max_tokens is None else max(1, self.max_tokens)
    if room < 1 or limit > room:
      wanted = "" if self.max_tokens is None else f" and max_tokens={limit}"
      raise TooLong(
        f"a prompt of {len(prompt.ids)} tokens{wanted} does not fit the {size} tokens "
        "of the model's context; shorten it"
      )
    return Request(
      ids=prompt.ids,
      max_tokens=limit,
      source=prompt.source,
      forced=prompt.forced,
      sampling=self.sampling,
      seed=self.seed,
      sample=sample,
      stops=self.ends,
      bias=self.bias,
      constraint=self.constraint and self.constraint(),
      top=0 if self.top is None and self.draws > self.n else self.top,
      prompt_top=self.top if self.echo else None,
      salt=self.salt,
    )


class TooLong(Mistake):
  """A prompt and a limit that the context does not hold."""


class Run:
  """The texts of a job as they are written: an iterator of their Pieces.

  Raises Mistake when it is made, for a job that cannot be served, and Broken while it
  is read, for a text that could not be finished. `meter` is a metrics.Meter.
  """

  def __init__(self, engine, tokenizer, job: Job, meter):
    self.job, self.prompt_tokens = job, sum(prompt.size for prompt in job.prompts)
    self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue()
    self._tickets, requests = [], job.requests(engine.size)
    self._clocks = [meter.begin() for _ in requests]
    self.texts = [self._text(tokenizer, number) for number in range(len(requests))]
    try:
      for number, request in enumerate(requests):
        self._tickets.append(engine.submit(request, self._listener(number)))
    except Mistake:
      self.close()
      raise

  def _text(self, tokenizer, number: int) -> Text:
    job = self.job
    return Text(
      tokenizer,
      number,
      before=job.prompts[number // job.draws].ids,
      ends=job.ends,
      stop=job.stop,
      scored=job.top is not None,
      echo=job.echo,
    )

  def _listener(self, number: int):
    """Returns the function that the engine's thread calls with events."""

    def listen(event):
      if not self._loop.is_closed():
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, event))

    return listen

  def close(self) -> None:
    """Cancels what is still being written; may be called again."""
    for ticket in self._tickets:
      ticket.cancel()
    for clock in self._clocks:
      clock.end("cancelled")  # those that have not ended

  @property
  def cached_tokens(self) -> int:
    """Tokens of the prompts that the engine had read before."""
    return sum(text.cached for text in self.texts[:: self.job.draws])

  @property
  def written_tokens(self) -> int:
    if self.job.max_tokens == 0:
      return 0
    return sum(len(text.ids) for text in self.texts)

  async def __aiter__(self):
    unfinished = set(range(len(self.texts)))
    while unfinished:
      number, event = await self._queue.get()
      text = self.texts[number]
      if isinstance(event, Failed):
        self._clocks[number].end("error")
        raise Broken(event.reason)
      if text.reason:  # a stop string ended it, while the engine went on
        continue
      if not isinstance(event, Begun):
        self._clocks[number].write(len(event.ids))
      piece = self._shown(text.take(event))
      if piece.finish_reason:
        unfinished.remove(number)
        self._clocks[number].end(piece.finish_reason)
        self._tickets[number].cancel()
      if piece.finish_reason == "cancelled":
        raise Stopped("the server is stopping")
      if piece.text or piece.tokens or piece.finish_reason:
        yield piece

  def _shown(self, piece: Piece) -> Piece:
    """Returns a piece without new text, where the prompt alone is wanted."""
    if self.job.max_tokens != 0 or not self.texts[piece.index].ids:
      return piece
    reason = "length" if piece.finish_reason == "stop" else piece.finish_reason
    return piece._replace(text="", tokens=(), finish_reason=reason)


async def whole(run: Run) -> list[Piece]:
  """Returns the `n` best texts of each prompt, whole, numbered anew.

  The best have the highest log-probability per token.
  """
  job, parts = run.job, [[] for _ in run.texts]
  async for piece in run:
    parts[piece.index].append(piece)
  pieces = []
  for start in range(0, len(parts), job.draws):
    order = range(start, start + job.draws)
    if job.draws > job.n:
      score = lambda i: run.texts[i].logprob / max(1, len(run.texts[i].ids))
      order = sorted(order, key=score, reverse=True)
    pieces += [_joined(parts[number]) for number in order[: job.n]]
  return [piece._replace(index=index) for index, piece in enumerate(pieces)]


def _joined(parts: list[Piece]) -> Piece:
  text = "".join(piece.text for piece in parts)
  tokens = tuple(token for piece in parts for token in piece.tokens)
  return Piece(parts[0].index, text, tokens, parts[-1].finish_reason)
