"""Takes a model over from other projects, or hands one to them; nothing is lost.

  ./launch.sh convert --from=SmolLM2-135M --to=runs/smollm     Hugging Face or GGUF in
  ./launch.sh convert --from=runs/smollm --to=smollm-again     ours out

In: a folder with config.json and safetensors, or a .gguf file, becomes a run's folder.
Out: a run's folder becomes one that `transformers` reads; tensors that came in and did
not change since are the same byte for byte.
"""

import json
import signal
import sys
from pathlib import Path

from absl import flags

from experiments import process
from lm.disk import atomic
from lm.errors import Mistake, one_of
from lm.stores import hf
from lm.stores import run as workdir
from lm.stores.hf import export
from lm.stores.hf.folder import Folder

_FROM = flags.DEFINE_string("from", None, "a folder of either kind, or a .gguf file")
_TO = flags.DEFINE_string("to", None, "the folder to make; it must not exist yet")
_DTYPE = flags.DEFINE_string(
  "dtype",
  "",
  "out: of the tensors written, as they came or float32 when left out; in: of the "
  "operands of matmuls, float32 when left out",
)
_FAMILY = flags.DEFINE_string(
  "family", "", "a model_type such as llama, in place of the one that is found"
)


def main():
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  source, target = Path(_FROM.value), Path(_TO.value)
  if target.exists():
    raise Mistake(f"{target} exists; choose another --to, or move it away")
  if _FAMILY.value:
    hf.module(_FAMILY.value)
  if _DTYPE.value:
    one_of("dtype", _DTYPE.value, export.DTYPES)
  model = into(source, target) if hf.is_foreign(source) else back(source, target)
  print(f"{target}: {hf.described(model)}")
  if hf.is_foreign(source):
    print(f"next: {next_step(model, target)}")


def next_step(model, target: Path) -> str:
  """What to do with a model that was taken over."""
  if model.traits.decodes:
    return f"./launch.sh generate --workdir={target} --prompt='Once upon a time'"
  return f"in Python, model, params, tokenizer = lm.load('{target}')"


def into(source: Path, target: Path):
  """Makes a run's folder of a model of theirs; the model."""
  run = {"dtype": _DTYPE.value} if _DTYPE.value else {}
  found = hf.checkpoint(source, family=_FAMILY.value, **run)
  tokenizer = hf.tokenizer_of(found.source)
  with atomic.making(target) as (folder, _):
    workdir.save(folder, found.model, found.params(), tokenizer)
    if isinstance(found.source, Folder):
      export.keep(workdir.Workdir(folder).theirs, found.source)
  return found.model


def back(source: Path, target: Path):
  """Makes a folder of theirs of a run; the model."""
  model, params, tokenizer, digest = workdir.stored(source)
  kept = workdir.Workdir(source).theirs
  kept = kept if kept.is_dir() else None
  flags_here = dict(family=_FAMILY.value, dtype=_DTYPE.value)
  of = json.dumps([flags_here, digest, _digests(source)])
  with atomic.making(target, of) as (folder, done):
    if done:
      print(f"going on in {folder}", file=sys.stderr)
    export.write(folder, model, params, tokenizer, kept=kept, done=done, **flags_here)
  return model


def _digests(run: Path) -> dict[str, str]:
  """Of the files of a run that say what it is, besides its checkpoints."""
  here = workdir.Workdir(run)
  named = [here.config_file, *here.tokenizer.rglob("*"), *here.theirs.rglob("*")]
  return {
    str(p.relative_to(run)): atomic.sha256_of_file(p)
    for p in sorted(named)
    if p.is_file()
  }


if __name__ == "__main__":
  process.run(main, required=("from", "to"))
