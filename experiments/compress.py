"""Makes a smaller model of one: quantised or pruned, in a folder like any other run's.

./launch.sh compress --workdir=runs/shakespeare --out=runs/small --method=int8
./launch.sh compress --workdir=SmolLM2-135M --out=runs/smollm-4 --method=int4
./launch.sh compress --workdir=runs/shakespeare --out=runs/half --method=channels-50
./launch.sh compress --workdir=SmolLM2-135M --out=runs/gptq --method=gptq \\
  --config=configs/shakespeare.py

Methods that look at what the model computes of texts (gptq, awq, wanda, heads,
channels, layers) take the run's own training data, or those that --config names.
"""

import functools
import signal
import sys

import jax
from absl import flags

from experiments import commands, config, process, scored
from lm import compress, stores
from lm.data.loader import Loader
from lm.disk import paths
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.nn import narrow
from lm.stores import compressed
from lm.train import compose

ROWS = 128  # that a method reads, as many as in the papers

config.flag("the data that a method looks at; by default the run's own")
_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_OUT = flags.DEFINE_string("out", None, "the folder to make; it must not exist yet")
_METHOD = flags.DEFINE_string(
  "method", None, "a file of lm/compress, as int8; or heads-25: a quarter of them"
)


def main():
  signal.signal(signal.SIGTERM, process.interrupt)
  target, path = paths.local(_OUT.value), _WORKDIR.value
  if target.exists():
    raise Mistake(f"{target} exists; choose another --out, or move it away")
  method, store = compress.make(_METHOD.value), stores.open(path)
  compressed.check(store)
  experiment = None
  if method.reads_text:
    experiment = config.experiment()[0] if config.is_given() else scored.trained(path)
  model, params, tokenizer = stores.load(path)
  if experiment and config.is_given():
    experiment = scored.adapted(experiment, path, model, tokenizer)
  texts = functools.partial(batches, experiment)
  small, result = method.apply(compress.Subject(model, params, texts, store))
  compressed.write(target, store, small, result)
  before, after = compress.num_bytes(params), compress.num_bytes(result)
  print(f"{target}: {stores.described(small)}")
  print(f"{before:,} bytes of parameters became {after:,}: {before / after:.2f}x fewer")
  if not narrow.is_installed():
    print("a CPU decodes int8 and int4 faster with: pip install numba", file=sys.stderr)
  print(f"next: {next_step(target)}")


def batches(experiment):
  """Returns the first batches of an experiment's training data: ROWS rows."""
  mesh = make_mesh(jax.local_devices()[:1])
  dataset = compose.prepare(experiment, log=functools.partial(print, file=sys.stderr))
  rows, batch = dataset.rows("train", experiment.seq), min(experiment.batch, ROWS)
  loader = Loader(rows, batch=batch, mesh=mesh, seed=experiment.seed)
  return map(loader, range(-(-ROWS // batch)))


def next_step(target) -> str:
  """Returns what to do with the model in a folder."""
  store = stores.open(target)
  if "data" in store.config:
    return commands.command("evaluate", workdir=target)
  load = f"in Python, model, params, tokenizer = lm.load({str(target.absolute())!r})"
  return commands.generate(store, "Once upon a time") or load


if __name__ == "__main__":
  process.run(main, required=("workdir", "out", "method"))
