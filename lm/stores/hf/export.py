"""Writes one of our models as a folder of Hugging Face, which `transformers` reads."""

import contextlib
import json
from pathlib import Path

import numpy as np

from lm import models, trees
from lm.disk import atomic, json_file
from lm.disk.safetensors import NewFile, Tensor
from lm.errors import Mistake, one_of
from lm.nn import linear
from lm.stores.hf import engine, families, ids, mapping_of, task_heads, tied
from lm.stores.hf.config import HfConfig
from lm.stores.hf.folder import INDEX, WEIGHTS
from lm.stores.store import abstract, fields_of

SHARD_BYTES = 5_000_000_000
LAYOUT = "layout.json"
# Fields that say how a model is computed or trained, not which function it is.
NOT_OF_THE_FUNCTION = ("dtype", "scan", "remat", "dropout", "backend", "chunk")
NOT_OF_THE_FUNCTION += ("balance", "router_z", "capacity")


def check_dtype(dtype: str):
  """Raises Mistake for a dtype that no tensor is written in."""
  one_of("dtype", dtype, engine.NAMES)


def of_run(target, store, *, family="", dtype="", log=print):
  """Writes the model of a RunStore into the new folder `target`; returns the model.

  A call that was killed goes on where it was, if nothing it depends on has changed.
  """
  wanted = abstract(store.model)[0]
  params = store.params(wanted, stay=True)
  kept = store.folder.kept if store.folder.kept.is_dir() else None
  inputs = json.dumps([family, dtype, store.digest])
  with atomic.folder(target, inputs) as (folder, done):
    if done:
      log(f"going on in {folder}")
    if store.weights:
      log(f"{store.path} is quantised; its numbers are written in full")
    write(
      folder,
      store.model,
      params,
      store.tokenizer(),
      kept=kept,
      family=family,
      dtype=dtype,
      labels=store.labels,
      done=done,
    )
  return store.model


def keep(folder, source):
  """Writes the small files and the layout of a source to `folder`.

  With them `write` makes the same files again: config.json with all its keys, the dtype
  of every tensor and the file that it was in.
  """
  folder = Path(folder)
  for name, data in source.notes().items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / name, data)
  atomic.write(folder / LAYOUT, json.dumps(source.layout(), indent=1))


def write(
  folder,
  model,
  params,
  tokenizer,
  *,
  kept=None,
  family="",
  dtype="",
  labels=(),
  done=None,
):
  """Fills `folder` with config.json, safetensors and the tokenizer's files.

  The leaves of `params` may be on the disk (`Store.params(stay=True)`): those that make
  one tensor, and its layers, are in memory at a time. `done` is a set of the groups
  that an earlier, killed call has written; each is added once it is on the disk.

  `kept` is a folder that `keep` wrote: its files are written again as they were, as
  long as the model is still that one. `family` is a model_type; left out, the first
  that can represent the model. `dtype` is that of the tensors: as they came, or else
  float32. `labels` are the names of a classifier's classes. Raises Mistake when no
  family can represent the model.
  """
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  hf, layout = None, None
  if kept is not None and (Path(kept) / LAYOUT).is_file() and not family:
    layout = json_file.read(Path(kept) / LAYOUT)
    names = [name for file in layout.values() for name in file["dtypes"]]
    hf = _kept_config(Path(kept) / "config.json", names, model)
    layout = None if hf is None else layout
  if layout is None:
    hf, kept = config_of(model, family), None
    ids.check_padding(hf, tokenizer)
    hf = hf.with_defaults(ids.of_config(tokenizer, model.traits.source))
    if labels:
      hf |= task_heads.names_of(labels)
  if dtype:
    hf |= {"dtype": dtype}
    hf.pop("torch_dtype", None)
  by_path = trees.by_path(params, is_leaf=linear.is_weight)
  family = families.find(hf["model_type"])
  mapping = mapping_of(family, hf, model)
  mapping.check_constants(by_path)
  plan = _plan(mapping, layout, dtype and engine.NAMES[dtype])
  _write_tensors(folder, plan, mapping, by_path, set() if done is None else done)
  _write_index(folder, plan)
  _write_notes(folder, hf, tokenizer, kept, changed=bool(dtype) or kept is None)


def _write_notes(folder: Path, hf: dict, tokenizer, kept, *, changed: bool):
  """Writes the kept files, or the tokenizer's; and config.json if it has changed."""
  if kept is not None:
    for path in sorted(Path(kept).rglob("*")):
      name = path.relative_to(kept)
      if path.is_file() and str(name) != LAYOUT:
        (folder / name).parent.mkdir(exist_ok=True)
        atomic.write(folder / name, path.read_bytes())
  elif tokenizer is not None:
    tokenizer.save(folder)
    if generation := ids.of_generation(tokenizer):
      text = json.dumps(generation, indent=2) + "\n"
      atomic.write(folder / "generation_config.json", text)
  if changed:
    text = json.dumps(hf, indent=2, ensure_ascii=False) + "\n"
    atomic.write(folder / "config.json", text)


def function_of(model) -> dict:
  """Returns the fields that define a model's function, their defaults resolved."""
  fields = fields_of(model)
  fields = {k: value for k, value in fields.items() if k not in NOT_OF_THE_FUNCTION}
  c = model.config
  if "kv_heads" in fields:
    N, K, H = c.attention.sizes(c.width)
    fields |= {"heads": N, "kv_heads": K, "head_size": H}
  elif "head_size" in fields:
    fields["head_size"] = c.H
  if "source_layers" in fields:
    fields["source_layers"] = c.source_L
  if fields.get("ff") == 0:  # the size that follows from the width
    fields["ff"] = c.F
  return fields


def _kept_config(file: Path, names, model) -> HfConfig | None:
  """Returns the config.json that a model came with, None if the model has changed.

  Where it has no model_type, that of the first family which makes the same model of it.
  """
  config, own = json_file.read(file), function_of(model)
  types = [t for name in families.names() for t in families.load(name).MODEL_TYPES]
  for kind in [config["model_type"]] if "model_type" in config else types:
    hf = HfConfig(config | {"model_type": kind}, names)
    try:
      if function_of(_rebuilt(hf)) == own:
        return hf
    except (KeyError, ValueError):
      if "model_type" in config:
        raise
  return None


def _rebuilt(hf: HfConfig):
  """Returns the model that a config.json makes."""
  family = families.find(hf["model_type"])
  return models.build(family.FAMILY, **family.config(hf))


def config_of(model, model_type: str) -> HfConfig:
  """Returns config.json for a model; Mistake when no family can represent it.

  With a `model_type` only its family is tried.
  """
  fields, reasons = function_of(model), []
  if model_type:
    candidates = [families.find(model_type)]
  else:
    candidates = [families.load(name) for name in families.names()]
  for family in candidates:
    name = family.__name__.rpartition(".")[2]
    if fields["family"] != family.FAMILY:
      reasons.append(f"{name} is a {family.FAMILY}, not a {fields['family']}")
      continue
    try:
      hf = HfConfig(family.to_hf(fields))
      represented = function_of(_rebuilt(hf))
    except (KeyError, ValueError) as error:
      reasons.append(f"{name} cannot say {error}")
      continue
    lost = [f"{k}={fields[k]!r}" for k in fields if represented[k] != fields[k]]
    if not lost and model_type in ("", hf["model_type"]):
      return hf
    reasons.append(f"{name} cannot say {', '.join(lost) or hf['model_type']}")
  raise Mistake(f"no family of Hugging Face's is this model: {'; '.join(reasons)}")


def _write_tensors(folder: Path, plan: dict, mapping, params: dict, done: set):
  """Writes the tensors into their files, in the order of our parameters."""
  with contextlib.ExitStack() as stack:
    new = [
      stack.enter_context(NewFile(folder / name, tensors, metadata=metadata))
      for name, (metadata, tensors) in plan.items()
    ]
    atomic.sync_folder(folder)
    file_of = {name: file for file in new for name in file.tensors}
    for paths, names in mapping.units():
      unit = " ".join(sorted(paths or names))
      if unit in done:
        continue
      _put({path: np.asarray(params[path]) for path in paths}, names, mapping, file_of)
      for file in new:
        file.sync()
      done.add(unit)


def _put(params: dict, names: list[str], mapping, file_of: dict):
  for name in names:
    array = mapping.back(name, params)
    for written in _names_of(mapping, name, file_of):
      dtype = file_of[written].tensors[written].dtype
      file_of[written].put(written, engine.rounded(written, array, dtype))


def _names_of(mapping, name: str, written) -> list[str]:
  """Returns the names of a tensor in the files: also those of its copies."""
  is_table = name == mapping.name_of("embed/table")
  return [name, *(tied.copies(mapping, written) if is_table else ())]


def _write_index(folder: Path, plan: dict):
  if list(plan) == [WEIGHTS]:
    return
  file_of = {name: file for file, (_, tensors) in plan.items() for name in tensors}
  size = sum(t.num_bytes for _, tensors in plan.values() for t in tensors.values())
  index = {
    "metadata": {"total_size": size},
    "weight_map": dict(sorted(file_of.items())),
  }
  atomic.write(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _plan(mapping, layout, dtype: str) -> dict:
  """Returns {file: (metadata, {name: Tensor})}: as they came, or in shards."""
  if layout is None:
    return _shards(mapping, dtype or "F32")
  return {
    file: (
      about["metadata"],
      {
        name: Tensor(dtype or before, _shape(mapping, name))
        for name, before in about["dtypes"].items()
        if _shape(mapping, name) is not None
      },
    )
    for file, about in layout.items()
  }


def _shards(mapping, dtype: str) -> dict:
  """Returns the plan of a new folder: one file, or shards of up to SHARD_BYTES."""
  shards, room = [{}], SHARD_BYTES
  for name, shape in mapping.tensors.items():
    tensor = Tensor(dtype, shape)
    if tensor.num_bytes > room and shards[-1]:
      shards.append({})
      room = SHARD_BYTES
    shards[-1][name] = tensor
    room -= tensor.num_bytes
  metadata = {"format": "pt"}
  if len(shards) == 1:
    return {WEIGHTS: (metadata, shards[0])}
  name = f"model-{{:05}}-of-{len(shards):05}.safetensors"
  return {name.format(i): (metadata, shard) for i, shard in enumerate(shards, 1)}


def _shape(mapping, name: str):
  """Returns the shape of a tensor to write; None for a buffer, which is not written."""
  if tied.copies(mapping, [name]):
    name = mapping.name_of("embed/table")
  return mapping.tensors.get(name)
