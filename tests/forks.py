"""The process that tests/processes.py forks its runs from, and spies inside of them."""

import gc
import json
import os
import pathlib
import runpy
import select
import signal
import sys
import threading


def serve():
  """Answers requests on standard input, a line each, until it ends."""
  import grain  # noqa: F401 - so that no run has to
  import matplotlib.pyplot  # noqa: F401
  import orbax.checkpoint  # noqa: F401

  import lm.train.run  # noqa: F401

  gc.freeze()  # nor to look through any of it for garbage
  gc.set_threshold(20_000, 20, 50)
  alive = {}  # pid -> a pipe that its end closes
  for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "pid" in request:
      answer = ended(request["pid"], alive, request["limit_s"])
    else:
      pipe, held = os.pipe()
      answer = os.fork()
      if not answer:
        return become(**request)
      os.close(held)
      alive[answer] = pipe
    print(json.dumps(answer), flush=True)
  for pid in alive:
    os.kill(pid, signal.SIGKILL)


def ended(pid, alive, limit_s):
  """The exit code, negative for a signal as subprocess has it; None if it runs on."""
  if not select.select([alive[pid]], [], [], limit_s)[0]:
    return None
  os.close(alive.pop(pid))
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become(verb, flags, devices, env, spy, folder):
  """Goes on as `python -m experiments.VERB FLAGS`."""
  import jax

  os.setsid()  # a Ctrl-C at pytest is not for it
  for number, name in ((1, "out"), (2, "err")):
    os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_APPEND), number)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.environ.update(env)
  jax.config.update("jax_num_cpu_devices", devices)
  hasten()
  if spy:
    globals()[spy[0]](spy[1])
  sys.argv = [f"experiments/{verb}.py", *flags]
  sys.path.remove(str(pathlib.Path(__file__).parent))
  runpy.run_module(f"experiments.{verb}", run_name="__main__", alter_sys=True)


def hasten():
  """Leaves out two things that every run does alike and `fresh` ones show: 2 s."""
  from lm import platform as flops
  from lm.study import curves

  curves.draw = lambda metrics_file, curves_file: None
  flops._measured = lambda platform, dtype: 1e11


# Spies


def note_rows(path):
  """Writes a line for every row of the train split that the loader reads: its index."""
  from lm.data import loader

  original = loader.Loader._row

  def row(self, step, place):
    if self.order != "once":
      with open(path, "a") as file:
        file.write(f"{step * self.batch + place}\n")
    return original(self, step, place)

  loader.Loader._row = row


def note_batches(path):
  """Writes a line for every batch that is trained on: its step and a hash of it."""
  import hashlib

  def note(step, batch):
    digest = hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch)))
    with open(path, "a") as file:
      file.write(f"{step} {digest.hexdigest()}\n")
    return batch

  change_batches(note)


def poison(first):
  """No finite loss from this step on."""
  change_batches(
    lambda step, batch: (
      batch
      if step + 1 < first
      else batch | {"weights_BT": batch["weights_BT"] * float("nan")}
    )
  )


def hang(step):
  """The batch of this step never comes."""

  def wait(at, batch):
    if at + 1 == step:
      threading.Event().wait()
    return batch

  change_batches(wait)


def work_elsewhere(folder):
  """This process has another folder where the others have theirs; it waits a little."""
  from experiments import distributed

  original = distributed.check_shared
  distributed.WAIT_S = 0.2
  distributed.check_shared = lambda _: original(folder)


def bug_in_the_loader(_):
  """It gives no batch, so that C code which ours calls raises a ValueError."""
  from lm.data import loader

  loader.Loader.prefetch = lambda self, steps: iter(())


def interrupt_a_callback(_):
  """Ctrl-C meets a callback of the garbage collector; cleaning never ends."""
  from lm.data.corpus import build

  def callback(phase, info):
    gc.callbacks.remove(callback)
    raise KeyboardInterrupt

  def cleaned(*args, **how):
    gc.callbacks.append(callback)
    gc.collect()
    threading.Event().wait()

  build.cleaned = cleaned


def hang_in_streaming(_):
  """The second piece of a text never comes."""
  from lm.generate import stream as streaming

  original = streaming.stream

  def stream(*args, **how):
    yield next(original(*args, **how))
    threading.Event().wait()

  streaming.stream = stream


def hang_in_preparing(_):
  """Cleaning never ends."""
  from lm.data.corpus import build

  build.cleaned = lambda *args, **how: threading.Event().wait()


def fail_to_sample(_):
  """Generating a text raises."""
  from lm.generate import stream

  def fail(*args, **how):
    raise RuntimeError("no sample today")

  stream.generate = fail


def die_in_a_tensor(which):
  """kill -9 when so many tensors of a file were written, the last of them by half."""
  from lm.disk import safetensors

  original, written = safetensors.NewFile.put, []

  def put(self, name, array):
    written.append(name)
    if len(written) == which:
      array = array.copy()
      array.reshape(-1)[array.size // 2 :] = 0
    original(self, name, array)
    if len(written) == which:
      self.sync()
      os.kill(os.getpid(), signal.SIGKILL)

  safetensors.NewFile.put = put


def change_batches(change):
  import jax

  from lm.data import loader

  original = loader.Loader.__call__

  def call(self, step):
    batch = original(self, step)
    if self.order == "once":
      return batch
    changed = change(step, jax.device_get(batch))
    return {key: jax.device_put(changed[key], x.sharding) for key, x in batch.items()}

  loader.Loader.__call__ = call


if __name__ == "__main__":
  serve()
