"""An application on a socket, in a thread of its own, until it is stopped.

    with Server(service, host="127.0.0.1", port=0) as server:
      print(server.url)
      ...

Leaving the block refuses new requests, finishes those that run, for a limited time, and
ends the engine.
"""

import ipaddress
import socket
import threading
import time

import uvicorn

from lm.errors import Mistake
from lm.serve import app

DRAIN_S = 30.0  # for requests that run when the server is to stop
FLUSH_S = 5  # for what is written already
BACKLOG = 2048
KEEP_S = 75  # an idle connection stays open


class Server:
  """A Service on host:port; port 0 takes a free one. Raises Mistake if it is taken."""

  def __init__(self, service, *, host: str, port: int):
    self._service = service
    self._socket = _listening(host, port)
    name = f"[{host}]" if ":" in host else host
    self.url = f"http://{name}:{self._socket.getsockname()[1]}"
    is_local = _is_local(host) and not service.keys
    config = uvicorn.Config(
      app.make(service, is_local=is_local),
      log_config=None,
      access_log=False,
      lifespan="off",
      ws="none",
      loop="asyncio",
      http="h11",
      server_header=False,
      proxy_headers=False,
      timeout_keep_alive=KEEP_S,
      timeout_graceful_shutdown=FLUSH_S,
    )
    self._server = uvicorn.Server(config)
    # Outside of the main thread it leaves the signals to the verb.
    run = dict(target=self._server.run, kwargs={"sockets": [self._socket]})
    self._thread = threading.Thread(name="http", daemon=True, **run)

  def __enter__(self) -> "Server":
    self._thread.start()
    return self

  def __exit__(self, *error):
    self.stop()

  def is_alive(self) -> bool:
    """Returns False once the thread has ended."""
    return self._thread.is_alive()

  def wait(self, seconds: float) -> None:
    """Returns after so many seconds, or when the thread ends."""
    self._thread.join(seconds)

  def stop(self, drain_s: float = DRAIN_S) -> None:
    """Refuses new requests, waits for those that run, then ends all threads."""
    service, end_s = self._service, time.monotonic() + drain_s
    service.is_draining = True
    while service.active and time.monotonic() < end_s and self.is_alive():
      self.wait(0.05)
    if service.engine is not None:
      service.engine.close(drain_s=max(0.0, end_s - time.monotonic()))
    self._server.should_exit = True
    self._thread.join(2 * FLUSH_S)
    self._socket.close()
    service.close()


def _is_local(host: str) -> bool:
  if host == "localhost":
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def _listening(host: str, port: int) -> socket.socket:
  try:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(BACKLOG)
  except (OSError, OverflowError) as error:
    raise Mistake(f"{host}:{port} cannot be served: {error}; choose another") from error
  return listening
