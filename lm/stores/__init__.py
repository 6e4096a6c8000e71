"""Stores of models on disk: `open` a path, `load` a model, `save` one, `write` another.

  store = stores.open("SmolLM2-135M")        # or a run's folder, or a .gguf file
  model = models.build(**store.fields)
  params = store.params(wanted, fresh=("classifier/.*",), drawn=params)

`Store` (store.py) is the contract. Formats of other projects are imported when a path
needs them: training a model from nothing does not pay for them.
"""

import re
from pathlib import Path

import jax
import numpy as np

from lm import models, trees
from lm.data.tokenizers import vocabulary
from lm.disk import atomic, json_file, paths
from lm.errors import Mistake
from lm.letters import make_mesh, shardings, unbox
from lm.stores import run
from lm.stores.run import RunFolder, RunStore, save
from lm.stores.store import Store, abstract, described, is_fresh, is_head

__all__ = [
  "RunFolder",
  "RunStore",
  "Store",
  "abstract",
  "described",
  "fresh_head",
  "load",
  "open",
  "save",
  "write",
]


def open(path, *, step: int | None = None, family: str = "") -> Store:
  """Returns the store at a path: RunStore, HfStore or GgufStore.

  "hf:org/name[@revision]" is a model of the Hugging Face hub, "package:NAME" one of
  lm.data.sources.packages.WEIGHTS; both are fetched when they are not there yet.
  `step` is a saved step of a run, by default the newest without damage. `family` is a
  model_type in place of the one in a Hugging Face config.json; a run ignores it. Raises
  Mistake for anything else at the path, and for what is damaged.
  """
  path = _located(path)
  if path.suffix == ".gguf":
    from lm.stores.gguf import GgufStore

    store = GgufStore(path, family=family)
  elif (path / "adapter_config.json").is_file():
    from lm.stores.hf.peft import PeftStore

    store = PeftStore(path, family=family)
  elif (config := _hf_config(path)) is not None:
    from lm.stores.hf import HfStore

    store = HfStore(path, config, family=family)
  else:
    return RunStore(path, step=step)
  if step is not None:
    raise Mistake(f"{path} has no steps; leave out step={step}")
  return store


def _located(path) -> Path:
  """Returns the path of a model; "hf:..." and "package:..." are fetched when needed."""
  kind, _, name = str(path).partition(":")
  if kind == "hf" and not name.startswith("//"):
    from lm.stores import hub

    return hub.folder(name)
  if kind == "package":
    from lm.data.sources import packages

    folder = packages.folder(name, cache=Path(".cache/data").absolute())
    return next(folder.glob("*.gguf"), folder)
  return paths.local(path)


def _hf_config(path: Path) -> dict | None:
  """Returns config.json of a folder of Hugging Face, else None.

  It has a model_type, or "architectures"; those of 2019 may have neither, but weights
  beside them, which are elsewhere in a run's folder.
  """
  file = path / "config.json"
  if not file.is_file():
    return None
  config = json_file.read(file)
  if "model_type" in config or "architectures" in config:
    return config
  has_weights = any(path.glob("*.safetensors*")) or any(path.glob("*.bin"))
  is_run = "model" in config or (path / "model.json").is_file()
  return config if has_weights and not is_run else None


def load(path, *, step=None, mesh=None, seed: int = 0, **fields):
  """Returns (model, params, tokenizer) of whatever is at a path.

    model, params, tokenizer = lm.load("runs/shakespeare")
    model, params, _ = lm.load("bert-base-uncased", head="classes", classes=3)

  The path is a run's folder, a folder of Hugging Face or a .gguf file. `step` is a
  saved one of a run, by default the newest; `mesh` is where the parameters go, by
  default the first device. The tokenizer is None where there is none.

  `fields` are values of the model in place of its own: another output head, whose
  parameters are drawn with `seed`, or dtype="bfloat16", in which the parameters are
  held as well (14 GB for 7 billion). Otherwise they are float32, or as a run's folder
  has them. Raises Mistake when
  there is nothing to load, when text can become ids that the model lacks, and when
  `fields` would change more than the head.
  """
  store = open(path, step=step)
  mesh = mesh or make_mesh(jax.devices()[:1])
  model = models.build(**(store.fields | fields)) if fields else store.model
  shapes, letters = abstract(model)
  wanted = trees.placed(shapes, shardings(mesh, letters, shapes))
  wanted = trees.as_dtype(wanted, fields.get("dtype") or store.params_dtype)
  fresh = fresh_head(store, models.fields(model))
  leaves = trees.by_path(wanted)
  drawn = _draw(model, {p: leaves[p] for p in leaves if is_fresh(p, fresh)}, seed)
  params = store.params(wanted, fresh=fresh, drawn=drawn)
  return model, params, store.tokenizer()


def fresh_head(store: Store, fields: dict) -> tuple[str, ...]:
  """Returns regular expressions of the output head's parameters that a store lacks.

  `fields` are those of the model that is wanted, without `vocab`.
  """
  model = models.build(**fields, vocab=store.fields["vocab"])
  have, want = (trees.describe(abstract(m)[0]) for m in (store.model, model))
  return tuple(
    re.escape(path)
    for path, leaf in want.items()
    if have.get(path) != leaf and is_head(path, model)
  )


def _draw(model, wanted: dict, seed: int) -> dict:
  """Returns the parameters at some paths, by path, drawn by the model's own init."""

  def draw(key):
    variables = model.init(key, np.zeros((1, 8), np.int32))
    params = trees.by_path(unbox(variables["params"]))
    return {path: params[path].astype(leaf.dtype) for path, leaf in wanted.items()}

  if not wanted:
    return {}
  where = {path: leaf.sharding for path, leaf in wanted.items()}
  return jax.jit(draw, out_shardings=where)(jax.random.key(seed))


def write(target, store: Store, *, family: str = "", dtype: str = "", log=print):
  """Writes the model of a store into a new folder of the other kind; returns the model.

  A run becomes a folder of Hugging Face that `transformers` reads; what came from one
  and did not change is byte for byte the same. `family` is its model_type, by default
  the first that can represent the model; `dtype` that of the tensors, by default as
  they came, or float32. A call that was killed goes on where it was, and `log`s that.
  With family "peft", the adapters of a run are written alone.

  A target that ends in .gguf becomes such a file, see gguf_export.py. Else a folder of
  Hugging Face or a .gguf file becomes a run's folder; `dtype` is then the model's own,
  of the operands of matmuls and of the parameters.

  Raises Mistake when `target` exists, and when no family can represent the model.
  """
  from lm.stores.hf import export

  target = paths.local(target)
  if target.suffix.lower() == ".gguf":
    from lm.stores import gguf_export

    vocabulary.refuse_prompt(store.tokenizer(), store.path)
    return gguf_export.write(target, store, family=family, dtype=dtype, log=log)
  if dtype:
    export.check_dtype(dtype)
  if family == "peft":
    from lm.stores.hf import peft_export

    return peft_export.write(target, store, log=log)
  vocabulary.refuse_prompt(store.tokenizer(), store.path)
  if isinstance(store, RunStore):
    return export.of_run(target, store, family=family, dtype=dtype, log=log)
  fields = store.fields | ({"dtype": dtype} if dtype else {})
  model, (shapes, letters) = models.build(**fields), abstract(store.model)
  mesh = make_mesh(jax.devices()[:1])
  wanted = trees.placed(shapes, shardings(mesh, letters, shapes))
  wanted = trees.as_dtype(wanted, dtype or "float32")
  with atomic.folder(target) as (folder, _):
    run.save(folder, model, store.params(wanted), store.tokenizer())
    store.keep(RunFolder(folder).kept)
  return model
