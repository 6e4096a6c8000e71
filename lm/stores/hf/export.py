"""A model of ours as a folder of Hugging Face's, which `transformers` reads."""

import contextlib
import json
from pathlib import Path

import numpy as np

from lm import lookup, models, trees
from lm.disk import atomic
from lm.disk.safetensors import NewFile, Tensor
from lm.errors import Mistake
from lm.stores import hf
from lm.stores.hf import engine
from lm.stores.hf.config import Theirs
from lm.stores.hf.folder import INDEX, WEIGHTS, is_folder, read_json

SHARD_BYTES = 5_000_000_000
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
LAYOUT = "layout.json"
# Fields of ours that say how a model is computed or trained, not what it is.
HOW = ("dtype", "scan", "remat", "dropout", "backend", "chunk")
HOW += ("balance", "router_z", "capacity")


def keep(folder, source):
  """Writes to `folder` what a source says and ours does not model.

  With it `write` makes the same files again: config.json with all its keys, the dtype
  of every tensor and in which file it was.
  """
  folder = Path(folder)
  for name, data in source.notes().items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    atomic.write_atomically(folder / name, data)
  text = json.dumps(source.layout(), indent=1)
  atomic.write_atomically(folder / LAYOUT, text.encode())


def write(
  folder, model, params, tokenizer, *, kept=None, family="", dtype="", done=None
):
  """Fills `folder` with config.json, safetensors and the tokenizer's files.

  The leaves of `params` may be on the disk (lm.stores.run.stored): those that make one
  tensor of theirs, and its layers, are in memory at a time. `done` is a set of those
  that are in the files there already, from a call that was killed; each is added when
  it is written for good.

  `kept` is a folder that `keep` wrote: what it has is said again, as long as the model
  is still that one. `family` is a model_type; left out, the first that can say all that
  the model is. `dtype` is of the tensors written: as they came, or else float32.
  Raises Mistake when no family can say it.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  told, layout = None, None
  if kept is not None and is_folder(kept) and not family:
    layout = read_json(Path(kept) / LAYOUT)
    names = [name for each in layout.values() for name in each["dtypes"]]
    told = Theirs(read_json(Path(kept) / "config.json"), names)
    layout = layout if what(_again(told)) == what(model) else None
  if layout is None:
    told, kept = _config(model, family), None
    told = told.over(_special_ids(tokenizer))
  if dtype:
    told |= {"dtype": dtype}
    told.pop("torch_dtype", None)
  by_path = trees.by_path(params)
  table = _table(model, told, layout)
  table.check_constants(by_path)
  plan = _planned(table, layout, dtype and DTYPES[dtype])
  _tensors(folder, plan, table, by_path, set() if done is None else done)
  _index(folder, plan)
  _notes(folder, told, tokenizer, kept, changed=bool(dtype) or kept is None)


def _notes(folder: Path, told: dict, tokenizer, kept, *, changed: bool):
  if kept is not None:
    for path in sorted(Path(kept).rglob("*")):
      name = path.relative_to(kept)
      if path.is_file() and str(name) != LAYOUT:
        (folder / name).parent.mkdir(exist_ok=True)
        atomic.write_atomically(folder / name, path.read_bytes())
  elif tokenizer is not None:
    tokenizer.save(folder)
  if changed:
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    atomic.write_atomically(folder / "config.json", text.encode())


def _special_ids(tokenizer) -> dict:
  names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "pad"}
  if tokenizer is None:
    return dict.fromkeys(names)
  return {key: getattr(tokenizer, name) for key, name in names.items()}


def what(model) -> dict:
  """The fields that say what a model is, with those that were left to a rule."""
  fields = models.fields(model) | {"vocab": model.config.vocab}
  fields = {name: value for name, value in fields.items() if name not in HOW}
  c = model.config
  if "kv_heads" in fields:
    N, K, H = c.attention.sizes(c.width)
    fields |= {"heads": N, "kv_heads": K, "head_size": H}
  elif "head_size" in fields:
    fields |= {"head_size": c.H, "source_layers": c.source_L}
  return fields | ({"ff": c.F} if hasattr(c, "F") else {})


def _again(told: Theirs):
  """The model that a config.json of theirs makes."""
  found = hf.module(told["model_type"])
  return models.build(found.FAMILY, **found.config(told))


def _config(model, family: str) -> Theirs:
  """config.json for a model; Mistake when no family, or not this one, can say it."""
  fields, why = what(model), {}
  files_here = [hf.TYPES[family]] if family else sorted(set(hf.TYPES.values()))
  for name in files_here:
    found = lookup.find("lm.stores.hf.families", name)
    if fields["family"] != found.FAMILY:
      why[name] = f"is a {found.FAMILY}, not a {fields['family']}"
      continue
    try:
      told = Theirs(found.theirs(fields))
      got = what(_again(told))
    except (KeyError, ValueError) as error:
      why[name] = f"cannot say {error}"
      continue
    differs = [f"{k}={fields[k]!r}" for k in fields if got[k] != fields[k]]
    if not differs and family in ("", told["model_type"]):
      return told
    why[name] = f"cannot say {', '.join(differs) or told['model_type']}"
  reasons = "; ".join(f"{name} {reason}" for name, reason in why.items())
  raise Mistake(f"no family of Hugging Face's is this model: {reasons}")


def _table(model, told: Theirs, layout) -> engine.Table:
  found = hf.module(told["model_type"])
  rows = found.table(told)
  if layout is not None:
    rows = engine.named_as(rows, found.PREFIX, told.names)
  return engine.Table(rows, trees.shapes_of(hf.abstract(model)[0]))


def _tensors(folder: Path, plan: dict, table, params: dict, done: set):
  """Puts the tensors into their files, in the order of our parameters."""
  with contextlib.ExitStack() as stack:
    new = [
      stack.enter_context(NewFile(folder / name, tensors, metadata=metadata))
      for name, (metadata, tensors) in plan.items()
    ]
    atomic.sync_folder(folder)
    file_of = {name: file for file in new for name in file.tensors}
    for paths, names in table.units():
      unit = " ".join(sorted(paths))
      if unit in done:
        continue
      _put({path: np.asarray(params[path]) for path in paths}, names, table, file_of)
      for file in new:
        file.sync()
      done.add(unit)


def _put(params: dict, names: list[str], table, file_of: dict):
  for name in names:
    array = table.back(name, params)
    for written in _written(table, name, file_of):
      dtype = file_of[written].tensors[written].dtype
      file_of[written].put(written, engine.rounded(written, array, dtype))


def _written(table, name: str, known) -> list[str]:
  """A tensor's names in the files: a tied readout may be said a second time."""
  twice = hf.HEAD in known and hf.HEAD not in table.tensors
  return [name, hf.HEAD][: 1 + (twice and name == table.name_of("embed/table"))]


def _index(folder: Path, plan: dict):
  if list(plan) != [WEIGHTS]:
    where = {name: file for file, (_, tensors) in plan.items() for name in tensors}
    size = sum(t.num_bytes for _, tensors in plan.values() for t in tensors.values())
    index = {
      "metadata": {"total_size": size},
      "weight_map": dict(sorted(where.items())),
    }
    text = json.dumps(index, indent=2) + "\n"
    atomic.write_atomically(folder / INDEX, text.encode())


def _planned(table, layout, dtype: str) -> dict:
  """file -> (metadata, {name: Tensor}), as they came or in shards of SHARD_BYTES."""
  if layout is not None:
    return {
      file: (
        told["metadata"],
        {
          name: Tensor(dtype or before, _shape(table, name))
          for name, before in told["dtypes"].items()
          if _shape(table, name) is not None
        },
      )
      for file, told in layout.items()
    }
  shards, room = [{}], SHARD_BYTES
  for name, shape in table.tensors.items():
    tensor = Tensor(dtype or "F32", shape)
    if tensor.num_bytes > room and shards[-1]:
      shards.append({})
      room = SHARD_BYTES
    shards[-1][name] = tensor
    room -= tensor.num_bytes
  about = {"format": "pt"}
  if len(shards) == 1:
    return {WEIGHTS: (about, shards[0])}
  name = f"model-{{:05}}-of-{len(shards):05}.safetensors"
  return {name.format(i): (about, shard) for i, shard in enumerate(shards, 1)}


def _shape(table, name: str):
  """The shape of a tensor to write; None for what is derived and not written."""
  if name == hf.HEAD and name not in table.tensors:
    name = table.name_of("embed/table")
  return table.tensors.get(name)
