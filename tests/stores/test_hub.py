"""Models by name, from a small server that stands for the hub."""

import contextlib
import hashlib
import http.server
import json
import threading

import numpy as np
import processes
import pytest

import lm
from lm import stores
from lm.data import tokenizers

SHA = hashlib.sha1(b"the only commit").hexdigest()
NAME = "org/small"


class Hub(http.server.BaseHTTPRequestHandler):
  """The hub's interface as a download uses it, for one model in `folder`."""

  protocol_version = "HTTP/1.1"

  def do_GET(self):
    path = self.path.partition("?")[0]
    files = sorted(file for file in self.server.folder.rglob("*") if file.is_file())
    names = [str(file.relative_to(self.server.folder)) for file in files]
    if path in (f"/api/models/{NAME}/revision/{r}" for r in ("main", "v1", SHA)):
      siblings = [{"rfilename": name} for name in names]
      return self._json({"id": NAME, "sha": SHA, "siblings": siblings})
    if path == f"/api/models/{NAME}/tree/{SHA}":
      sizes = zip(names, (file.stat().st_size for file in files), strict=True)
      rows = [dict(type="file", path=n, size=s, oid=self._etag(n)) for n, s in sizes]
      return self._json(rows)
    for place in (f"/{NAME}/resolve/{SHA}/", "/elsewhere/"):
      if path.startswith(place):
        return self._file(path.removeprefix(place), is_moved=place == "/elsewhere/")
    code = "RevisionNotFound" if NAME in path else "RepoNotFound"
    if "org/gated" in path:
      return self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
    return self._send(404, b"{}", {"X-Error-Code": code})

  do_HEAD = do_GET

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


@pytest.fixture(scope="module")
def model():
  return lm.model("decoder", preset="gpt2-tiny", vocab=256, width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
  """A Hugging Face folder, with files that nobody wants."""
  base = tmp_path_factory.mktemp("small")
  params, _ = lm.fit(model, None, rows, num_steps=1)
  lm.save(base / "run", model, params, tokenizers.byte_tokenizer())
  stores.write(base / "hf", stores.open(base / "run"), log=lambda line: None)
  for name in ("pytorch_model.bin", "onnx/model.onnx", "other/x.safetensors"):
    (base / "hf" / name).parent.mkdir(exist_ok=True)
    (base / "hf" / name).write_bytes(b"not wanted")
  return base / "hf"


def rows(step):
  ids = np.arange(16, dtype=np.int32).reshape(2, 8)
  return dict(tokens_BT=ids, targets_BT=ids + 1, weights_BT=np.ones((2, 8), "f4"))


@contextlib.contextmanager
def serving(folder, **faults):
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
  port = server.server_address[1]
  return {
    "HF_ENDPOINT": f"http://127.0.0.1:{port}",
    "HF_HOME": str(home),
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
  }


def generate(name, env):
  flags = [f"--workdir=hf:{name}", "--prompt=ab", "--max_tokens=4", "--seed=1"]
  return processes.fresh("generate", *flags, env=env)


def test_a_name_is_the_folder_of_its_files(folder, tmp_path):
  expected = processes.run(
    "generate", f"--workdir={folder}", "--prompt=ab", "--max_tokens=4", "--seed=1"
  )
  with serving(folder) as server:
    env = environment(server, tmp_path)
    for name in (NAME, f"{NAME}@v1", f"{NAME}@{SHA}"):
      result = generate(name, env)
      assert (result.code, result.out) == (0, expected.out), result.err
  fetched = {name for command, name in server.requests if command == "GET"}
  assert "model.safetensors" in fetched and "config.json" in fetched
  assert not fetched & {"pytorch_model.bin", "onnx/model.onnx", "other/x.safetensors"}
  got = [name for command, name in server.requests if command == "GET"]
  assert len(got) == len(fetched)  # each file once
  # The server is gone; what is in the cache needs none.
  result = generate(NAME, env | {"HF_HUB_OFFLINE": "1"})
  assert (result.code, result.out) == (0, expected.out), result.err


@pytest.mark.parametrize(
  "name, faults, message",
  [
    ("org/none", {}, "hf:org/none does not exist, or is private: check its name, or"),
    ("org/gated", {}, "hf:org/gated is gated: accept its terms"),
    (f"{NAME}@v9", {}, f"hf:{NAME} has no revision 'v9'"),
    ("small", {}, "hf:small; wanted hf:organisation/name"),
    ("org/a b", {}, "hf:org/a b is no name of a model: "),
    (NAME, dict(missing=["config.json"]), f"hf:{NAME} could not be fetched ("),
    (NAME, dict(cut=["model.safetensors"]), f"hf:{NAME} could not be fetched ("),
  ],
)
def test_what_cannot_be_had_is_one_line(name, faults, message, folder, tmp_path):
  with serving(folder, **faults) as server:
    result = generate(name, environment(server, tmp_path))
  assert result.code == 2
  [line] = [x for x in result.err.splitlines() if x.startswith("error: ")]
  assert message in line and "Traceback" not in result.err


def test_without_a_network_it_says_so(folder, tmp_path):
  with serving(folder) as server:
    env = environment(server, tmp_path)
  for more in ({}, {"HF_HUB_OFFLINE": "1"}):
    result = generate(NAME, env | more)
    assert result.code == 2 and f"hf:{NAME} could not be fetched (" in result.err
    assert "Traceback" not in result.err
