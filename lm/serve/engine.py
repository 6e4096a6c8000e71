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

from lm.generate import decode, slots
from lm.generate.prompts import pad_drawable, validate_request
from lm.platform import narrow
from lm.serve.prefixes import Prefixes
from lm.serve.reading import Reading, size_of
from lm.serve.requests import Begun, Failed, Full, Request, Stats, Ticket, Written
from lm.serve.rows import TOP, Row, check, empty, one_row, width_of


class Engine:
  """Writes the texts of requests with one model.

  Args:
    model, params: of a family that decodes.
    drawable: says of each id whether a text may have it, see
      `tokenizers.vocabulary.drawable`; None allows all.
    rows: the texts that are written at once.
    size: the most tokens of a prompt and its text; by default the model's context, or
      2048 where that is longer or has no limit.
    chunk: the tokens of a prompt that are read between two tokens of the texts, a
      power of two.
    waiting: the most requests that wait for a row.
    prefix_bytes: of memory for prompts that were read, to be read no more.
    cache_dtype: of the keys and values.
    mesh: where the parameters are, if on several devices.
  """

  def __init__(
    self,
    model,
    params,
    *,
    drawable=None,
    rows: int = 8,
    size: int = 0,
    chunk: int = 128,
    waiting: int = 256,
    prefix_bytes: int = 1 << 29,
    cache_dtype: str = "float32",
    mesh=None,
  ):
    if not model.traits.decodes:
      validate_request(model, [], [], 1)
    context = model.config.context or 2**31
    self.size = min(context, size or 2048)
    self._columns = size_of(self.size)
    self._model, self._params = model, decode.prepare_params(model, params)
    self._width, self._chunk, self._limit = width_of(model, params), chunk, waiting
    self._base_V = pad_drawable(drawable, self._width)
    keeps = prefix_bytes > 0 and not model.traits.source
    self._prefixes = Prefixes(prefix_bytes) if keeps else None
    self._mesh, self._slots, self._dtype = mesh, None, cache_dtype
    self._rows: list[Row | None] = [None] * rows
    self._reading: Row | None = None
    self._inbox, self._waiting = queue.SimpleQueue(), collections.deque()
    self._stats, self._lock = Stats(rows), threading.Lock()
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
        running=sum(row is not None for row in self._rows),
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
      busy = self._reading or self._waiting or any(self._rows)
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
      if None not in self._rows:
        break
      read += max(1, self._read())
    if any(self._rows):
      self._write()
    with self._lock:
      self._stats.turns += 1

  def _drop_cancelled(self):
    for row in [r for r in self._waiting if r.ticket.is_cancelled]:
      self._waiting.remove(row)
      self._finish(row, Written((), None, "cancelled"))
    if self._reading and self._reading.ticket.is_cancelled:
      row, self._reading = self._reading, None
      self._finish(row, Written((), None, "cancelled"))
    cancelled = [row is not None and row.ticket.is_cancelled for row in self._rows]
    if any(cancelled):
      self._slots = slots.retire(self._slots, cancelled)
    for number, row in enumerate(self._rows):
      if cancelled[number]:
        self._rows[number] = None
        self._finish(row, Written((), None, "cancelled"))

  def _read(self) -> int:
    """Reads a chunk of a prompt, admits one that is whole; returns its tokens."""
    row, self._reading = self._reading or self._waiting.popleft(), None
    try:
      if row.reading is None:
        options = dict(chunk=self._chunk, top=TOP, prefixes=self._prefixes)
        options["dtype"] = self._dtype
        row.reading = Reading(self._model, self._params, row.request, **options)
      count = 0 if row.reading.is_over else row.reading.step()
      if not row.reading.is_over:
        self._reading = row
        return count
      self._admit(row)
    except Exception as error:
      self._log(error)
      self._finish(row, Failed(f"the prompt could not be read: {_line(error)}"))
      return self._chunk
    return count

  def _admit(self, row: Row):
    """Puts a prompt that is read into a free row."""
    reading, number = row.reading, self._rows.index(None)
    if self._slots is None:
      self._slots = self._empty()
    one = one_row(reading, row.bias_V())
    self._slots = slots.admit(self._slots, number, one)
    with self._lock:
      self._stats.prompt_tokens += len(row.request.ids)
      self._stats.cached_tokens += reading.cached
    row.send(Begun(reading.cached, reading.scored()))
    row.reading, self._rows[number] = None, row

  def _empty(self):
    sizes = dict(size=self._columns, dtype=self._dtype)
    return empty(self._model, self._params, len(self._rows), **sizes)

  def _write(self):
    """Writes a token in each row, and sends it."""
    for number, row in enumerate(self._rows):
      if row is not None and row.request.constraint is not None:
        self._slots = slots.hold(self._slots, number, row.bias_V())
    self._slots = slots.advance(self._model, self._params, self._slots, 1)
    drawn = slots.read(self._slots)
    self._slots = slots.drained(self._slots)
    failed = [False] * len(self._rows)
    for number, row in enumerate(self._rows):
      if row is None:
        continue
      try:
        event = row.event(drawn, number)
      except Exception as error:
        self._log(error)
        event, failed[number] = (
          Failed(f"the text could not go on: {_line(error)}"),
          True,
        )
      with self._lock:
        self._stats.written_tokens += int(drawn.counts_B[number])
      if isinstance(event, Failed) or event.finish_reason:
        self._rows[number] = None
        self._finish(row, event)
      else:
        row.send(event)
    if any(failed):
      self._slots = slots.retire(self._slots, failed)

  def _finish(self, row: Row, event):
    """Sends the last event of a request."""
    reason = "failed" if isinstance(event, Failed) else event.finish_reason
    with self._lock:
      self._stats.finished[reason] += 1
    row.send(event)

  def _fail_all(self, reason: str):
    """Ends all requests that are here, and forgets the slots."""
    rows = [row for row in (*self._rows, self._reading, *self._waiting) if row]
    self._rows, self._reading = [None] * len(self._rows), None
    self._waiting.clear()
    self._slots = None
    for row in rows:
      self._finish(row, Failed(reason))

  def _log(self, error: Exception):
    traceback.print_exception(error)


def _line(error: Exception) -> str:
  """Returns an error in one line."""
  return str(error).partition("\n")[0] or type(error).__name__
