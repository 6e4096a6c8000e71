"""Converts a model between this project, Hugging Face and GGUF; nothing is lost.

  ./launch.sh convert --from=SmolLM2-135M --to=runs/smollm     Hugging Face or GGUF in
  ./launch.sh convert --from=runs/smollm --to=smollm-again     ours out
  ./launch.sh convert --from=runs/smollm --to=smollm.gguf --dtype=q8_0

In: a folder with config.json and safetensors, or a .gguf file, becomes a run's folder.
Out: a run's folder becomes one that `transformers` reads; tensors that came in and did
not change since are the same byte for byte. To a name that ends in .gguf: any of them
becomes a file that llama.cpp reads, for Llama, Mistral, Qwen 2 and Qwen 3.
"""

import functools
import os
import signal
import sys
from pathlib import Path

from absl import flags

from experiments import commands, process
from lm import stores
from lm.disk import paths
from lm.errors import Mistake

_FROM = flags.DEFINE_string("from", None, "a folder of either kind, or a .gguf file")
_TO = flags.DEFINE_string(
  "to", None, "the folder or .gguf file to make; it must not exist yet"
)
_DTYPE = flags.DEFINE_string(
  "dtype",
  "",
  "out: of the tensors written, as they came or float32 when left out, of a .gguf also "
  "q8_0 and q4_0; in: of the parameters and of the operands of matmuls, float32 when "
  "left out",
)
_FAMILY = flags.DEFINE_string(
  "family", "", "a model_type such as llama, in place of the store's own"
)


def main():
  signal.signal(signal.SIGTERM, process.interrupt)
  target = paths.local(_TO.value)
  if target.exists():
    raise Mistake(f"{target} exists; choose another --to, or move it away")
  store = stores.open(_FROM.value, family=_FAMILY.value)
  log = functools.partial(print, file=sys.stderr)
  model = stores.write(target, store, family=_FAMILY.value, dtype=_DTYPE.value, log=log)
  print(f"{target}: {stores.described(model)}")
  print(f"next: {next_step(target)}")


def next_step(target: Path) -> str:
  """Returns what to do with a model that was converted into a folder."""
  load = f"in Python, model, params, tokenizer = lm.load({os.path.abspath(target)!r})"
  return commands.generate(stores.open(target), "Once upon a time") or load


if __name__ == "__main__":
  process.run(main, required=("from", "to"))
