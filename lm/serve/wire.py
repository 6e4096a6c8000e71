"""Requests and replies on the wire: JSON bodies, errors as OpenAI has them, streams.

A reply is a dict, which is sent as JSON, or a Stream, which is sent as server-sent
events. When the client leaves before the end, what makes the reply is cancelled.
"""

import asyncio
import contextlib
import json
import logging

from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from lm.errors import Mistake
from lm.serve.jobs import Broken, Stopped, TooLong
from lm.serve.requests import Full

DONE = "data: [DONE]\n\n"
KINDS = {401: "authentication_error", 429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
RETRY_S = 1  # what a client is advised to wait, when there is too much to do
SHOWN = 300  # characters of a message at most, for it may quote the client


class Refusal(Exception):
  """A request that is not served: the status, and OpenAI's error for it."""

  def __init__(self, status: int, message: str, *, param=None, code=None):
    super().__init__(message)
    self.status, self.param = status, param
    self.code = code or CODES.get(status)

  @property
  def headers(self) -> dict[str, str]:
    return {"retry-after": str(RETRY_S)} if self.status in (429, 503) else {}

  def body(self) -> dict:
    """Returns {"error": {"message", "type", "param", "code"}}."""
    other = "server_error" if self.status >= 500 else "invalid_request_error"
    error = {
      "message": _short(str(self)),
      "type": KINDS.get(self.status, other),
      "param": self.param,
      "code": self.code,
    }
    return {"error": error}


def refusal(error: Exception) -> Refusal:
  """Returns what a client learns of an error; one of ours is logged, and not shown."""
  match error:
    case Refusal():
      return error
    case ValidationError():
      return _invalid(error)
    case Full():
      return Refusal(429, str(error))
    case TooLong():
      return Refusal(400, str(error), code="context_length_exceeded")
    case Mistake():
      return Refusal(400, str(error))
    case TimeoutError():
      return Refusal(503, "the request took longer than the server allows")
    case Stopped():
      return Refusal(503, str(error))
    case Broken():
      return Refusal(500, str(error))
  logging.getLogger("lm.serve").error("a request failed", exc_info=error)
  return Refusal(500, "the server failed; its log says more")


def _invalid(error: ValidationError) -> Refusal:
  """Returns the Refusal of a body that does not have the form that is wanted."""
  problems = error.errors(include_url=False, include_context=False, include_input=False)
  first = problems[0]
  if first["type"] == "json_invalid":
    return Refusal(400, f"the body is no JSON: {first['msg']}")
  path = [str(part) for part in first["loc"]]
  param = path[0] if path else None
  if first["type"] == "extra_forbidden":
    return Refusal(400, f"there is no parameter {'.'.join(path)!r} here", param=param)
  messages = [p["msg"] for p in problems if [*p["loc"][:1]] == [*first["loc"][:1]]]
  text = "; or ".join(dict.fromkeys(messages))
  return Refusal(400, f"{'.'.join(path[:3])}: {text}", param=param)


def _short(text: str) -> str:
  line = " ".join(text.split())
  return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


async def read(request, limit: int) -> bytes:
  """Returns the body of a request; Refusal when it is over `limit` bytes."""
  too_large = Refusal(413, f"the body is over {limit} bytes")
  length = request.headers.get("content-length", "")
  if length.isascii() and length.isdigit() and int(length[:20]) > limit:
    raise too_large
  parts, size = [], 0
  async for part in request.stream():
    parts.append(part)
    size += len(part)
    if size > limit:
      raise too_large
  return b"".join(parts)


def dumped(value) -> str:
  """Returns JSON in ASCII: to some clients other separators are ends of lines."""
  return json.dumps(value, separators=(",", ":"))


def event(value, name: str = "") -> str:
  """Returns a server-sent event with a JSON value."""
  return f"{f'event: {name}{chr(10)}' if name else ''}data: {dumped(value)}\n\n"


class Stream:
  """Events to send one by one; `close` is called at their end, or when nobody reads."""

  def __init__(self, events, close):
    self.events, self.close = events, close


async def until_left(receive, work):
  """Returns the result of a coroutine, which is cancelled if the client leaves first.

  Raises ClientDisconnect then. The body of the request has been read.
  """

  async def left():
    while (await receive())["type"] != "http.disconnect":
      continue

  tasks = [asyncio.ensure_future(work), asyncio.ensure_future(left())]
  try:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if not tasks[0].done():
      raise ClientDisconnect
    return tasks[0].result()
  finally:
    is_done = tasks[0].done()
    for task in tasks:
      task.cancel()
    if not is_done:  # what it holds is given back before this returns
      await asyncio.gather(*tasks, return_exceptions=True)


async def send_json(send, status: int, value: dict, headers=()) -> None:
  """Sends a whole reply."""
  body = dumped(value).encode()
  await send_bytes(send, status, body, "application/json", headers)


async def send_bytes(send, status: int, body: bytes, kind: str, headers=()) -> None:
  """Sends a whole reply of the media type `kind`."""
  fields = {"content-type": kind, "content-length": str(len(body)), **dict(headers)}
  await send({"type": "http.response.start", "status": status, "headers": _raw(fields)})
  await send({"type": "http.response.body", "body": body})


async def send_stream(receive, send, stream: Stream, seconds: float) -> None:
  """Sends the events of a stream as they come, for at most so many seconds.

  An error that comes up is an event of its own, the last but [DONE].
  """
  fields = {"content-type": "text/event-stream", "cache-control": "no-cache"}
  fields["x-accel-buffering"] = "no"  # proxies would keep events back

  async def write(text: str):
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

  async def pump():
    await send({"type": "http.response.start", "status": 200, "headers": _raw(fields)})
    try:
      async with asyncio.timeout(seconds), contextlib.aclosing(stream.events) as events:
        async for text in events:
          await write(text)
          await asyncio.sleep(0)  # others have their turn, and a lost client is noticed
    except Exception as error:
      await write(event(refusal(error).body()))
      await write(DONE)
    await send({"type": "http.response.body", "body": b""})

  try:
    await until_left(receive, pump())
  finally:
    stream.close()


def _raw(fields: dict) -> list[tuple[bytes, bytes]]:
  return [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
