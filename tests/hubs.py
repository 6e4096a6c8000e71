"""A small server that stands for the Hugging Face hub.

    with hubs.serving(folder) as server:
      env = hubs.environment(server, home)

It has the files of a folder, as the model NAME and as the data set NAME, at one commit.
"""

import contextlib
import hashlib
import http.server
import json
import threading

SHA = hashlib.sha1(b"the only commit").hexdigest()
NAME = "org/small"
REVISIONS = ("main", "v1", "refs%2Fconvert%2Fparquet", SHA)


class Hub(http.server.BaseHTTPRequestHandler):
  """The hub's interface as a download uses it, for the files of `folder`."""

  protocol_version = "HTTP/1.1"

  def do_GET(self):
    path = self.path.partition("?")[0]
    files = sorted(file for file in self.server.folder.rglob("*") if file.is_file())
    names = [str(file.relative_to(self.server.folder)) for file in files]
    for kind, prefix in (("models", ""), ("datasets", "datasets/")):
      api, place = f"/api/{kind}/{NAME}", f"/{prefix}{NAME}/resolve/{SHA}/"
      if path in (f"{api}/revision/{revision}" for revision in REVISIONS):
        siblings = [{"rfilename": name} for name in names]
        return self._json({"id": NAME, "sha": SHA, "siblings": siblings})
      if path == f"{api}/tree/{SHA}":
        return self._json([self._entry(name) for name in names])
      if path.startswith(place):
        return self._file(path.removeprefix(place), is_moved=False)
    if path.startswith("/elsewhere/"):
      return self._file(path.removeprefix("/elsewhere/"), is_moved=True)
    code = "RevisionNotFound" if NAME in path else "RepoNotFound"
    if "org/gated" in path:
      return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
    return self._send(404, b"{}", {"X-Error-Code": code})

  do_HEAD = do_GET

  def _entry(self, name: str) -> dict:
    size = (self.server.folder / name).stat().st_size
    return dict(type="file", path=name, size=size, oid=self._etag(name))

  def _etag(self, name: str) -> str:
    data = (self.server.folder / name).read_bytes()
    return hashlib.sha1(b"blob %d\\0" % len(data) + data).hexdigest()

  def _file(self, name: str, *, is_moved: bool):
    if name in self.server.missing:
      return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
    data = (self.server.folder / name).read_bytes()
    headers = {"ETag": f'"{self._etag(name)}"', "X-Repo-Commit": SHA}
    if name.endswith(".safetensors") and not is_moved:
      headers |= {"Location": f"/elsewhere/{name}", "X-Linked-Size": str(len(data))}
      return self._send(302, b"", headers)
    self.server.requests.append((self.command, name))
    cut = len(data) // 2 if name in self.server.cut else len(data)
    self._send(200, data, headers, cut=cut)

  def _json(self, value):
    self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

  def _send(self, code, data, headers, cut=None):
    self.send_response(code)
    for name, value in ({"Content-Length": str(len(data))} | headers).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(data[:cut])
      if cut is not None and cut < len(data):
        self.close_connection = True

  def log_message(self, *arguments):
    pass


@contextlib.contextmanager
def serving(folder, **faults):
  """A server of a folder within a block; its `requests` are (command, file).

  Files that are `missing` are listed and not there; of those `cut` the half is sent.
  """
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
  server.folder, server.requests = folder, []
  server.missing, server.cut = faults.get("missing", ()), faults.get("cut", ())
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def environment(server, home) -> dict:
  """Returns the variables by which a process goes to a server; `home` is its cache."""
  port = server.server_address[1]
  return {
    "HF_ENDPOINT": f"http://127.0.0.1:{port}",
    "HF_HOME": str(home),
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
  }
