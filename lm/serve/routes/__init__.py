"""Endpoints by their paths: every file here has a tuple ROUTES, and is found by it."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from lm import lookup


class Caller(NamedTuple):
  """Who sent a request, and what its path names."""

  salt: str  # of its API key, "" without keys
  names: dict[str, str]


class Route(NamedTuple):
  """An endpoint: `reply(service, body, caller)` returns a dict or a wire.Stream."""

  method: str
  path: str
  body: type | None  # the pydantic model of its body
  reply: Callable[..., Awaitable[Any]]


def every() -> list[Route]:
  """Returns the routes of all files."""
  files = (lookup.find(__name__, name) for name in lookup.names(__name__))
  return [route for file in files for route in file.ROUTES]
