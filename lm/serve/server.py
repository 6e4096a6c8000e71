"""An application on a socket, in a thread of its own, until it is stopped.

    with Server(service, bound("127.0.0.1", 8000)) as server:
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
  """A Service on a socket that is `bound`."""

  def __init__(self, service, place: socket.socket):
    self._service, self._socket = service, place
    host, port = place.getsockname()[:2]
    self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    is_local = ipaddress.ip_address(host).is_loopback and not service.keys
    place.listen(BACKLOG)
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


def bound(host: str, port: int) -> socket.socket:
  """Returns a socket with the address; port 0 takes a free one.

  Raises Mistake for one that is taken, or is none of this machine.
  """
  try:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    place = socket.socket(family, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind((host, port))
  except OSError as error:
    raise Mistake(f"{host}:{port} cannot be served: {error}; choose another") from error
  return place
