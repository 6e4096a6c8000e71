"""The ASGI application of a Service: its routes behind keys, limits and errors.

Every request but those of OPEN needs an API key, where there are keys; an unknown path
too. Replies to pages of other origins are refused, and where nothing but this machine
is served, so are other names of it (DNS rebinding).
"""

import asyncio
import re
import secrets
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route, Router

from lm.serve import metrics, routes, wire
from lm.serve.jobs import Broken, Stopped
from lm.serve.routes import Caller
from lm.serve.wire import Refusal

PAGE = Path(__file__).with_name("page.html")
OPEN = ("/", "/health")
BODY_S = 60  # for a client to send its request
LEFT = 499  # in metrics: the client left before it had a reply
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
POLICY += "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
LOCAL = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)


def make(service, *, is_local=False):
  """Returns the application; `is_local` where only this machine is to be served."""
  rules = [
    Route(rule.path, _endpoint(service, rule), methods=[rule.method])
    for rule in routes.every()
  ]
  rules += [
    Route("/", _sends(PAGE.read_bytes(), "text/html; charset=utf-8")),
    Route("/health", _health(service)),
    Route("/metrics", _metrics(service)),
  ]
  inner = Router(rules, redirect_slashes=False)
  return Guard(inner, service, is_local=is_local)


class Guard:
  """Gives every reply the id of its request, and lets in who may come in."""

  def __init__(self, app, service, *, is_local: bool):
    self._app, self._service, self._is_local = app, service, is_local
    self._paths = {route.path for route in app.routes}  # that metrics name

  async def __call__(self, scope, receive, send):
    if scope["type"] != "http":
      return
    headers = {
      name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]
    }
    id, status = _request_id(headers), LEFT

    async def send_with_id(message):
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
        message = {**message, "headers": [*message["headers"], (b"x-request-id", id)]}
      await send(message)

    try:
      salt = self._admitted(scope, headers)
      # With an "app" the router raises, where it would answer in words otherwise.
      await self._app({**scope, "app": self, "salt": salt}, receive, send_with_id)
    except Refusal as error:
      await wire.send_json(send_with_id, error.status, error.body(), error.headers)
    except HTTPException as error:
      line = f"there is no {scope['method']} {scope['path']} here"
      body = Refusal(error.status_code, line).body()
      await wire.send_json(send_with_id, error.status_code, body)
    finally:
      path = scope["path"] if scope["path"] in self._paths else "other"
      self._service.meter.requests.labels(path, str(status)).inc()

  def _admitted(self, scope, headers: dict) -> str:
    """Returns the salt of the client; Refusal for one that is not served."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if self._is_local and not LOCAL.fullmatch(host):
      raise Refusal(403, "the server is for this machine; call it by 127.0.0.1")
    if origin is not None and origin.partition("://")[2] != host:
      raise Refusal(403, "pages of other origins are not served")
    if scope["path"] in OPEN and scope["method"] in ("GET", "HEAD"):
      return ""
    return self._service.keys.salt(headers.get("authorization", ""))


def _request_id(headers: dict) -> bytes:
  given = headers.get("x-request-id", "")
  return (given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)).encode()


class _Sent:
  """An ASGI application of one function of (scope, receive, send)."""

  def __init__(self, function):
    self._function = function

  async def __call__(self, scope, receive, send):
    await self._function(scope, receive, send)


def _sends(body: bytes, kind: str):
  async def page(scope, receive, send):
    fields = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
    await wire.send_bytes(send, 200, body, kind, fields)

  return _Sent(page)


def _health(service):
  async def health(scope, receive, send):
    problem = service.health()
    value = {"status": problem or "ok"}
    await wire.send_json(send, 503 if problem else 200, value)

  return _Sent(health)


def _metrics(service):
  async def text(scope, receive, send):
    await wire.send_bytes(send, 200, service.meter.text(), metrics.KIND)

  return _Sent(text)


def _endpoint(service, rule):
  """Returns the ASGI application of a route."""

  async def respond(scope, receive, send):
    request = Request(scope, receive)
    caller = Caller(scope["salt"], scope["path_params"])
    try:
      reply = await _reply(service, rule, request, caller)
      if isinstance(reply, wire.Stream):
        await wire.send_stream(receive, send, reply, service.limits.seconds)
      else:
        await wire.send_json(send, 200, reply)
    except ClientDisconnect:
      return  # nobody is there to read a reply
    except Exception as error:
      if service.is_draining and isinstance(error, Broken):
        error = Stopped(str(error))
      raise wire.refusal(error) from error

  async def counted(scope, receive, send):
    if rule.method == "GET":
      return await respond(scope, receive, send)
    if service.is_draining:
      raise Refusal(503, "the server is stopping")
    if service.active >= service.limits.requests:
      raise Refusal(429, f"{service.active} requests are being served; come again")
    service.active += 1
    try:
      await respond(scope, receive, send)
    finally:
      service.active -= 1

  return _Sent(counted)


async def _reply(service, rule, request, caller):
  """Returns the reply of a route, for which there is a limited time."""
  async with asyncio.timeout(service.limits.seconds):
    if rule.body is None:
      return await rule.reply(service, None, caller)
    async with asyncio.timeout(BODY_S):
      data = await wire.read(request, service.limits.body_bytes)
    body = rule.body.model_validate_json(data)
    service.check_model(body.model)
    work = rule.reply(service, body, caller)
    return await wire.until_left(request.receive, work)
