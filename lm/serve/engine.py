"""The engine: texts of many requests at once, in ids; one thread, one batch of slots.

    engine = Engine(model, params, drawable=drawable)
    ticket = engine.submit(Request(ids=(1, 2, 3), max_tokens=16), on_event=print)
    engine.close(drain_s=30)

Each turn reads a chunk of a waiting prompt (lm/serve/reading.py), admits it into a free
row when it is read, and advances all rows by a token. Shapes are those of the slots and
of a few chunks, whoever is there: a request's tokens do not depend on its neighbours,
and nothing compiles for a new one. A row has its columns from the start, so no request
ever has to make room for another: what does not fit waits.
"""

import collections
import contextlib
import dataclasses
import queue
import threading
import time
import traceback

import jax

from lm.generate.prompts import pad_drawable, validate_request
from lm.platform import narrow
from lm.serve.batch import Batch
from lm.serve.prefixes import Prefixes
from lm.serve.requests import Begun, Failed, Full, Request, Stats, Ticket, Written
from lm.serve.rows import Row, check, width_of
from lm.serve.settings import Settings

CANCELLED = Written((), None, "cancelled")
DEFAULTS = Settings()
LONGEST = 2048  # tokens of a prompt and its text, where the settings name no number


class Engine:
  """Writes the texts of requests with one model.

  Args:
    model, params: of a family that decodes.
    drawable: says of each id whether a text may have it, see
      `tokenizers.vocabulary.drawable`; None allows all.
    settings: see settings.py; its paths and devices are `draft` and `mesh` here.
    draft: (model, params) of a smaller model with the same tokens, that guesses.
    mesh: where the parameters are, if on several devices.
  """

  def __init__(
    self,
    model,
    params,
    *,
    settings: Settings = DEFAULTS,
    drawable=None,
    draft=None,
    mesh=None,
  ):
    validate_request(model, [], [], 1)
    self.size = min(model.config.context or 2**31, settings.size or LONGEST)
    self._batch = Batch(model, params, settings, size=self.size, draft=draft)
    self._model, self._width = model, width_of(model, params)
    self._chunk, self._limit = settings.chunk, settings.waiting
    self._mesh = mesh
    self._base_V = pad_drawable(drawable, self._width)
    keeps = settings.prefix_bytes > 0 and not model.traits.source
    self._prefixes = Prefixes(settings.prefix_bytes) if keeps else None
    self._reading: Row | None = None
    self._inbox, self._waiting = queue.SimpleQueue(), collections.deque()
    self._stats, self._lock = Stats(settings.rows), threading.Lock()
    self._open, self._deadline, self._since_s = True, None, None
    self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
    self._thread.start()

  def submit(self, request: Request, on_event) -> Ticket:
    """Returns the place of a request; `on_event` gets its events, from another thread.

    They are Begun, Written until one has a finish_reason, or Failed as the last one.
    Raises Mistake for a request that cannot be served, and Full when too many wait.
    """
    self.check(request)
    ticket = Ticket(request, on_event)
    with self._lock:
      if not self._open:
        raise Full("the engine is closing; it takes no more requests")
      if self._count_waiting() >= self._limit:
        raise Full(f"{self._limit} requests are waiting; try again later")
      self._inbox.put(ticket)
    return ticket

  def _count_waiting(self) -> int:
    reading = self._reading is not None
    return self._inbox.qsize() + len(self._waiting) + reading

  def check(self, request: Request):
    """Raises Mistake for a request that cannot be served."""
    check(request, self._model, size=self.size, width=self._width)

  def stats(self) -> Stats:
    """Returns the numbers of this moment."""
    with self._lock:
      return dataclasses.replace(
        self._stats,
        running=sum(row is not None for row in self._batch.rows),
        waiting=self._count_waiting(),
        prefix_bytes=0 if self._prefixes is None else self._prefixes.bytes,
        finished=self._stats.finished.copy(),
      )

  def stalled_s(self) -> float | None:
    """Returns the seconds that the turn takes so far; None if there is nothing to do.

    The first turns compile, which takes longer than any later one.
    """
    since_s = self._since_s
    return None if since_s is None else time.monotonic() - since_s

  def is_alive(self) -> bool:
    """Returns True while the engine can take requests."""
    return self._thread.is_alive()

  def close(self, *, drain_s: float):
    """Takes no more requests, ends after the present ones or so many seconds."""
    with self._lock:
      self._open, self._deadline = False, time.monotonic() + drain_s
    self._inbox.put(None)
    self._thread.join()

  @narrow
  def _run(self):
    place = contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)
    with place:
      while self._take():
        self._since_s = time.monotonic()
        try:
          self._turn()
        except Exception:
          traceback.print_exc()
          self._fail_all("the engine failed; the server's log has the reason")
    self._fail_all("the engine was closed before the text was finished")

  def _take(self) -> bool:
    """Takes new requests, and waits if there is no other work; False at the end."""
    while True:
      busy = self._reading or self._waiting or any(self._batch.rows)
      if not busy:
        self._since_s = None
        if not self._open and self._inbox.empty():
          return False
      if not self._open and time.monotonic() > self._deadline:
        return False
      try:
        ticket = self._inbox.get(block=not busy)
      except queue.Empty:
        return True
      if ticket is not None:
        self._waiting.append(Row(ticket, self._base_V))

  def _turn(self):
    """Reads a chunk of prompts, admits what is read, and writes a token in each row."""
    self._drop_cancelled()
    read = 0
    while read < self._chunk and (self._reading or self._waiting):
      if None not in self._batch.rows:
        break
      read += max(1, self._read())
    if any(self._batch.rows):
      self._write()
    with self._lock:
      self._stats.turns += 1

  def _drop_cancelled(self):
    for row in [r for r in self._waiting if r.ticket.is_cancelled]:
      self._waiting.remove(row)
      self._finish(row, CANCELLED)
    if self._reading and self._reading.ticket.is_cancelled:
      row, self._reading = self._reading, None
      self._finish(row, CANCELLED)
    rows = list(self._batch.rows)
    is_cancelled_B = [row is not None and row.ticket.is_cancelled for row in rows]
    self._batch.retire(is_cancelled_B)
    for row, is_cancelled in zip(rows, is_cancelled_B, strict=True):
      if is_cancelled:
        self._finish(row, CANCELLED)

  def _read(self) -> int:
    """Reads a chunk of a prompt, admits one that is whole; returns its tokens."""
    row, self._reading = self._reading or self._waiting.popleft(), None
    try:
      if row.reading is None:
        row.reading = self._batch.reading(row.request, self._prefixes)
      count = 0 if row.reading.is_over else row.reading.step()
      if not row.reading.is_over:
        self._reading = row
        return count
      begun = Begun(row.reading.cached, row.reading.scored())
      self._batch.admit(row)
    except Exception as error:
      traceback.print_exception(error)
      self._finish(row, Failed(f"the prompt could not be read: {_line(error)}"))
      return self._chunk
    with self._lock:
      self._stats.prompt_tokens += len(row.request.ids)
      self._stats.cached_tokens += begun.cached
    row.send(begun)
    return count

  def _write(self):
    """Writes a token in each row, or more, and sends them."""
    drawn, rows = self._batch.write(), self._batch.rows
    failed_B = [False] * len(rows)
    for number, row in enumerate(rows):
      if row is None:
        continue
      try:
        event = row.event(drawn, number)
      except Exception as error:
        traceback.print_exception(error)
        event = Failed(f"the text could not go on: {_line(error)}")
        failed_B[number] = True
      with self._lock:
        self._stats.written_tokens += int(drawn.counts_B[number])
      if isinstance(event, Failed) or event.finish_reason:
        rows[number] = None
        self._finish(row, event)
      else:
        row.send(event)
    self._batch.retire(failed_B)

  def _finish(self, row: Row, event):
    """Sends the last event of a request."""
    reason = "failed" if isinstance(event, Failed) else event.finish_reason
    with self._lock:
      self._stats.finished[reason] += 1
    row.send(event)

  def _fail_all(self, reason: str):
    """Ends all requests that are here, and forgets the slots."""
    rows = [row for row in (*self._batch.rows, self._reading, *self._waiting) if row]
    self._reading = None
    self._waiting.clear()
    self._batch.reset()
    for row in rows:
      self._finish(row, Failed(reason))


def _line(error: Exception) -> str:
  """Returns an error in one line."""
  return str(error).partition("\n")[0] or type(error).__name__
