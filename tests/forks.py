"""Server that tests/processes.py forks its runs from, and spies inside the runs."""

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
  """Answers JSON requests on standard input, one a line, until end of file."""
  import grain  # noqa: F401 - so that no run has to
  import matplotlib.pyplot  # noqa: F401
  import orbax.checkpoint  # noqa: F401

  import lm.train.run  # noqa: F401

  gc.freeze()  # no run looks through these imports for garbage
  gc.set_threshold(20_000, 20, 50)
  alive = {}  # pid -> a pipe that its end closes
  for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "pid" in request:
      answer = ended(request["pid"], alive, request["limit_s"])
    else:
      pipe, open_end = os.pipe()
      answer = os.fork()
      if not answer:
        return become(**request)
      os.close(open_end)
      alive[answer] = pipe
    print(json.dumps(answer), flush=True)
  for pid in alive:
    os.kill(pid, signal.SIGKILL)


def ended(pid, alive, limit_s):
  """Returns the exit code, negative for a signal; None if the process still runs."""
  if not select.select([alive[pid]], [], [], limit_s)[0]:
    return None
  os.close(alive.pop(pid))
  return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def become(verb, flags, devices, env, spy, folder):
  """Turns this process into `python -m experiments.VERB FLAGS`."""
  import jax

  os.setsid()  # so that a Ctrl-C at pytest does not reach it
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
  """Skips drawing curves and measuring peak FLOPs, which saves 2 s a run."""
  from lm import platform as flops
  from lm.study import curves

  curves.draw = lambda metrics_file, curves_file: None
  flops._measured = lambda platform, dtype: 1e11


# Spies


def note_rows(path):
  """Writes the index of every row of the train split that the loader reads."""
  from lm.data import loader

  original = loader.Loader._row

  def row(self, step, place):
    if self.order != "once":
      with open(path, "a") as file:
        file.write(f"{step * self.batch + place}\n")
    return original(self, step, place)

  loader.Loader._row = row


def note_batches(path):
  """Writes the step and the SHA-256 of every batch that is trained on."""
  import hashlib

  def note(step, batch):
    digest = hashlib.sha256(b"".join(batch[key].tobytes() for key in sorted(batch)))
    with open(path, "a") as file:
      file.write(f"{step} {digest.hexdigest()}\n")
    return batch

  change_batches(note)


def poison(first):
  """Makes the loss NaN from this step on."""
  change_batches(
    lambda step, batch: (
      batch
      if step + 1 < first
      else batch | {"weights_BT": batch["weights_BT"] * float("nan")}
    )
  )


def hang(step):
  """Blocks the batch of this step for ever."""

  def wait(step_index, batch):
    if step_index + 1 == step:
      threading.Event().wait()
    return batch

  change_batches(wait)


def work_elsewhere(folder):
  """Gives this process another folder than the others, and a wait of 0.2 s."""
  from experiments import distributed

  original = distributed.check_shared
  distributed.WAIT_S = 0.2
  distributed.check_shared = lambda _: original(folder)


def bug_in_the_loader(_):
  """Makes prefetch yield no batch, so that C code raises a ValueError."""
  from lm.data import loader

  loader.Loader.prefetch = lambda self, steps: iter(())


def interrupt_a_callback(_):
  """Raises KeyboardInterrupt in a callback of the garbage collector while cleaning."""
  from lm.data.corpus import build

  def callback(phase, info):
    gc.callbacks.remove(callback)
    raise KeyboardInterrupt

  def clean(*args, **options):
    gc.callbacks.append(callback)
    gc.collect()
    threading.Event().wait()

  build.clean = clean


def read_from(path):
  """Makes a file the standard input."""
  os.dup2(os.open(path, os.O_RDONLY), 0)


def hang_in_streaming(_):
  """Blocks a streamed text after its first piece."""
  from lm.generate import stream as streaming

  original = streaming.stream

  def stream(*args, **options):
    yield next(original(*args, **options))
    threading.Event().wait()

  streaming.stream = stream


def hang_in_preparing(_):
  """Blocks in cleaning for ever."""
  from lm.data.corpus import build

  build.clean = lambda *args, **options: threading.Event().wait()


def fail_to_sample(_):
  """Makes the generation of a text raise."""
  from lm.generate import stream

  def fail(*args, **options):
    raise RuntimeError("no sample today")

  stream.generate = fail


def die_in_a_tensor(count):
  """Kills the process at the tensor number `count` of a file, half of it written."""
  from lm.disk import safetensors

  original, names = safetensors.NewFile.put, []

  def put(self, name, array):
    names.append(name)
    if len(names) == count:
      array = array.copy()
      array.reshape(-1)[array.size // 2 :] = 0
    original(self, name, array)
    if len(names) == count:
      self.sync()
      os.kill(os.getpid(), signal.SIGKILL)

  safetensors.NewFile.put = put


def terminate_in_a_tensor(_):
  """Sends SIGTERM at the first tensor of a file."""
  from lm.disk import safetensors

  original = safetensors.NewFile.put

  def put(self, name, array):
    os.kill(os.getpid(), signal.SIGTERM)
    original(self, name, array)

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
