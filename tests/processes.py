"""Verbs as processes, which tests kill, signal and run in pairs.

    run = processes.run("train", "--config=tests/shrink.py", f"--workdir={folder}")
    assert run.code == 0 and run.err == ""

Runs are forked from one process that has imported everything, but started nothing of
jax: a fresh interpreter spends seconds on imports. `fresh` starts one nevertheless.
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from lm import log

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ.pop("LM_CALLER", None)  # of launch.sh: verbs would leave ROOT
LIMIT_S = 400  # longest wait for an event


class Run:
  """A started process: its exit code (None while it runs), stdout and stderr so far."""

  def __init__(self, folder, pid, wait):
    self._folder, self.pid, self._wait, self.code = folder, pid, wait, None

  @property
  def out(self) -> str:
    return (self._folder / "out").read_text()

  @property
  def err(self) -> str:
    return (self._folder / "err").read_text()

  def wait(self, limit_s=LIMIT_S) -> "Run":
    """Waits for the end, returns self; past the limit kills the run, fails the test."""
    if self.code is None:
      self.code = self._wait(limit_s)
    if self.code is None:
      self.kill()
      raise AssertionError(f"not over in {limit_s} s\n{self.out}\n{self.err}")
    return self

  def ended(self, limit_s) -> bool:
    """Returns True if the process ends within the limit."""
    if self.code is None:
      self.code = self._wait(limit_s)
    return self.code is not None

  def until(self, claim) -> "Run":
    """Waits until claim() is true, returns self; fails if the process ends before."""
    end = time.monotonic() + LIMIT_S
    while not claim():
      has_ended = self.ended(0.002) or time.monotonic() > end
      assert not has_ended or claim(), f"ended with {self.code}\n{self.out}\n{self.err}"
    return self

  def signal(self, number=signal.SIGTERM):
    os.kill(self.pid, number)

  def kill(self) -> "Run":
    """Sends SIGKILL, waits for the end, returns self."""
    if self.code is None:
      with contextlib.suppress(ProcessLookupError):
        self.signal(signal.SIGKILL)
      self.code = self._wait(LIMIT_S)
    return self


def start(verb, *flags, devices=1, env=None, spy=None) -> Run:
  """Starts the verb with these flags on so many virtual devices.

  `spy` is (name of a function of forks.py, its argument), called first.
  """
  folder = _folder()
  request = dict(verb=verb, flags=[*map(str, flags)], devices=devices, env=env or {})
  ask = functools.partial(_ask, _server())
  pid = ask(request | {"spy": spy, "folder": str(folder)})
  return Run(folder, pid, lambda limit_s: ask({"pid": pid, "limit_s": limit_s}))


def run(verb, *flags, **options) -> Run:
  """Runs the verb to its end."""
  return start(verb, *flags, **options).wait()


def refused(verb, *flags, devices=1, env=None):
  """Runs a verb that must fail; returns its Mistake, the only line on stderr."""
  result = run(verb, *flags, devices=devices, env=env)
  assert result.code == 2, result.err
  assert re.fullmatch(r"error: [^\n]+\n", result.err), result.err
  return result.err.removeprefix("error: ").rstrip()


def fresh(verb, *flags, env=None) -> Run:
  """Runs a verb, or the file of one (a path), to its end in a new interpreter."""
  folder = _folder()
  program = [verb] if isinstance(verb, pathlib.Path) else ["-m", f"experiments.{verb}"]
  command = [sys.executable, *program, *map(str, flags)]
  env = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
  with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
    process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env=env)

  def wait(limit_s):
    with contextlib.suppress(subprocess.TimeoutExpired):
      return process.wait(limit_s)

  return Run(folder, process.pid, wait).wait()


def pair(verb, *flags, devices, spies=(None, None)) -> list[Run]:
  """Starts two processes of one run, by jax.distributed, `devices` each."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  environment = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
  return [
    start(
      verb,
      *flags,
      devices=devices,
      env=environment | {"JAX_PROCESS_ID": str(index)},
      spy=spies[index],
    )
    for index in range(2)
  ]


def _folder() -> pathlib.Path:
  """Makes a folder with the files for a run's stdout and stderr."""
  folder = pathlib.Path(tempfile.mkdtemp(dir=_folders().name))
  (folder / "out").touch()
  (folder / "err").touch()
  return folder


@functools.cache
def _folders():
  folder = tempfile.TemporaryDirectory(prefix="lm-runs-")
  atexit.register(folder.cleanup)
  return folder


@functools.cache
def _server():
  process = subprocess.Popen(
    [sys.executable, str(ROOT / "tests" / "forks.py")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    # One core is enough for one test, and its threads would not survive the fork.
    env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
  )
  atexit.register(process.communicate)  # closes its stdin, at which it exits
  return process


def _ask(server, request):
  print(json.dumps(request), file=server.stdin, flush=True)
  return json.loads(server.stdout.readline())


def problems(commands) -> list[str]:
  """Returns the parser's error for every [verb, flag...], "" for none; runs nothing."""
  program = [sys.executable, str(ROOT / "tests" / "commands.py")]
  env = os.environ | {"PYTHONPATH": str(ROOT)}
  text = json.dumps([list(command) for command in commands])
  run = subprocess.run(
    program, input=text, env=env, cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  return json.loads(run.stdout)


# Inputs and outputs of runs


def corpus(folder, paragraphs=400, seed=0) -> pathlib.Path:
  """Writes a text file of so many paragraphs of ten different words."""
  draw = random.Random(seed)
  words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "then"]
  path = pathlib.Path(folder) / "corpus.txt"
  lines = (" ".join(draw.choices(words, k=12)) for _ in range(paragraphs))
  path.write_text(".\n\n".join(lines))
  return path


def flags(workdir, text, **values) -> list[str]:
  """Returns the flags of a shrunk run on a text; `values` with __ for the dots."""
  fields = {
    "data.source": f"text:{text}",
    "data.tokenizer": "bytes",
    "data.cache": pathlib.Path(text).parent / "cache",
  }
  fields |= {name.replace("__", "."): value for name, value in values.items()}
  changes = [f"--config.{name}={value}" for name, value in fields.items()]
  return ["--config=tests/shrink.py", f"--workdir={workdir}", *changes]


def leaves(workdir, step) -> dict:
  """Returns {path: array} of the checkpoint of a step."""
  import jax
  import numpy as np

  from lm.checkpoint import arrays

  folder = pathlib.Path(workdir) / "checkpoints" / str(step)
  expected = {}
  for name, description in json.loads((folder / "checkpoint.json").read_text())[
    "arrays"
  ].items():
    part, _, path = name.partition("/")
    dtype, _, shape = description.partition("[")
    shape = tuple(int(n) for n in shape.strip("]").split(",") if n)
    leaf = jax.ShapeDtypeStruct(shape, np.dtype(dtype))
    if path:
      expected.setdefault(part, {})[path] = leaf
    else:
      expected[part] = leaf
  saved = arrays.read(folder / "state", expected)
  named = jax.tree_util.tree_leaves_with_path(saved)
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named}


def metrics(workdir) -> list[dict]:
  """Returns the lines of metrics.jsonl without the fields that depend on time."""
  clocked = ("time_s", "train/tokens_per_s", "train/mfu")
  return [
    {k: v for k, v in row.items() if k not in clocked and not k.startswith("time/")}
    for row in log.read(pathlib.Path(workdir) / "metrics.jsonl")
  ]


def assert_same_bits(first, second, step):
  """Checks that two runs have the same arrays at a step, and the same metrics."""
  first_arrays, second_arrays = leaves(first, step), leaves(second, step)
  assert first_arrays.keys() == second_arrays.keys()
  for name in first_arrays:
    assert first_arrays[name].dtype == second_arrays[name].dtype, name
    assert first_arrays[name].tobytes() == second_arrays[name].tobytes(), name
  assert metrics(first) == metrics(second)
