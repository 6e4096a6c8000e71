"""Writes what a run of LoRA, DoRA or prompt tuning has trained as an adapter of peft.

The frozen parameters stay in the model that the run began from. What the run trained as
it is, such as a new head, is written whole, as peft's `modules_to_save`.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lm import trees
from lm.adapt.lora import Sides
from lm.disk import atomic, paths
from lm.disk.safetensors import NewFile, Tensor
from lm.errors import Mistake
from lm.stores import adapted
from lm.stores.hf import export, families, mapping_of
from lm.stores.hf.peft import (
  CONFIG,
  PROMPT,
  PROMPT_ROOT,
  ROOT,
  SUFFIX_OF_TASK,
  WEIGHTS,
)

TASK_OF_SUFFIX = {suffix: task for task, suffix in SUFFIX_OF_TASK.items()}
TASK_OF_SUFFIX |= {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM"}
TASK_OF_SUFFIX |= {"ForConditionalGeneration": "SEQ_2_SEQ_LM"}


def write(target, run, log=print):
  """Writes the adapters of a RunStore into the new folder `target`; returns the model.

  Raises Mistake for a run that was not trained with adapt.name=lora or prompt, and for
  one whose model no family of Hugging Face represents.
  """
  target = paths.local(target)
  kind = run.config.get("adapt", {}).get("name")
  if kind not in ("lora", "prompt"):
    raise Mistake(
      f"{run.path} has no adapters to write; wanted a run of adapt.name=lora or prompt"
    )
  own = adapted.adapter(run)
  leaves = trees.by_path(adapted.own_params(run, own))
  hf = export.config_of(run.model, "")
  mapping = mapping_of(families.find(hf["model_type"]), hf, run.model)
  if kind == "prompt":
    root, prompt_VD = PROMPT_ROOT, leaves["embed/table/prompt"]
    tensors, about = {PROMPT: np.asarray(prompt_VD)}, _prompt_config(prompt_VD)
    written = f"a prompt of {len(prompt_VD)} tokens for"
  else:
    root, modules = ROOT, _modules(own, leaves, mapping)
    tensors = {
      f"{ROOT}{name}{end}": array
      for name, module in modules.items()
      for end, array in module.tensors().items()
    }
    about = _lora_config(own.adaptation, modules)
    written = f"adapters of {len(modules)} matrices of"
  whole = _whole(own, leaves, mapping)
  tensors |= {root + name: array for name, array in whole.items()}
  about |= _config(run, hf)
  about["modules_to_save"] = sorted({name.rpartition(".")[0] for name in whole}) or None
  with atomic.folder(target) as (folder, _):
    shapes = {name: Tensor("F32", x.shape) for name, x in tensors.items()}
    with NewFile(folder / WEIGHTS, shapes, metadata={"format": "pt"}) as file:
      for name, array in tensors.items():
        file.put(name, np.ascontiguousarray(array, np.float32))
      file.sync()
    text = json.dumps(about, indent=2, sort_keys=True) + "\n"
    atomic.write(folder / CONFIG, text.encode())
  log(f"{target}: {written} {run.config['init']['path']}")
  return run.model


@dataclass(frozen=True)
class Module:
  """The adapter of one matrix of Hugging Face: A (rank, in), B (out, rank)."""

  A: np.ndarray
  B: np.ndarray
  length: np.ndarray | None  # of the rows of the matrix, in DoRA
  is_turned: bool  # the matrix is (in, out), as in GPT-2

  def tensors(self) -> dict[str, np.ndarray]:
    """Returns the tensors by the ends of their names."""
    tensors = {".lora_A.weight": self.A, ".lora_B.weight": self.B}
    if self.length is not None:
      tensors[".lora_magnitude_vector"] = self.length
    return tensors


def _modules(own, leaves: dict, mapping) -> dict[str, Module]:
  """Returns the modules by name: a tensor without its ".weight"."""
  weights = {path.rpartition("/")[0] for path in leaves if path.endswith("/a")}
  weights = {path for path in weights if path in own.weights}
  modules = {}
  for name, [(row, numbers), *_] in mapping.sources.items():
    if weights & set(row.paths):
      modules[name.removesuffix(".weight")] = _module(own, leaves, row, numbers)
  return modules


def _module(own, leaves: dict, row, numbers) -> Module:
  """Returns the adapter of a tensor that is one of our weights, or several.

  Where each number of ours is in the tensor is read off a tensor made of their indices.
  Several weights have a block of the rank each.
  """
  rank, start, indices, parts = own.adaptation.rank, 0, [], []
  for path in row.paths:
    size = own.shapes_by_path[path].shape[row.num_stacked :]
    end = start + int(np.prod(size))
    indices.append(np.arange(start, end).reshape(size))
    start = end
  places = np.asarray(row.reshape.back(indices))
  for path, index in zip(row.paths, indices, strict=True):
    if f"{path}/a" in leaves:
      arrays = {
        name: np.asarray(leaves[f"{path}/{name}"])[numbers]
        for name in ("a", "b", "length")
        if f"{path}/{name}" in leaves
      }
      parts.append(_part(own.weights[path], arrays, index, places, rank))
  is_turned = parts[0].is_turned
  rows, inputs = places.shape[::-1] if is_turned else places.shape
  A, B = np.zeros((len(parts) * rank, inputs)), np.zeros((rows, len(parts) * rank))
  length = np.zeros(rows) if own.adaptation.dora else None
  for block, part in enumerate(parts):
    span = slice(block * rank, (block + 1) * rank)
    A[span], B[part.rows, span] = part.module.A, part.module.B
    if length is not None:
      length[part.rows] = part.module.length
  if length is not None and not (length > 0).all():
    raise Mistake(
      f"{row.hf} is several matrices of which DoRA adapts some; peft cannot say that: "
      "adapt all of them"
    )
  return Module(A, B, length, is_turned)


class Part(NamedTuple):
  """The adapter of one of our weights, of some rows of a matrix of Hugging Face."""

  rows: np.ndarray
  module: Module

  @property
  def is_turned(self) -> bool:
    """True where the matrix is (in, out)."""
    return self.module.is_turned


def _part(weight, arrays: dict, index, places, rank: int) -> Part:
  """Returns the Part of a weight whose numbers have `index` in the tensor `places`."""
  sides, size = Sides.of(weight), index.shape
  is_own = (places >= index.flat[0]) & (places <= index.flat[-1])
  grid = np.unravel_index(np.where(is_own, places - index.flat[0], 0), size)
  letters = sides.letters.replace("L", "")
  at, of = (dict(zip(letters, x, strict=True)) for x in (grid, size))
  summed, columns = _flat(at, of, sides.summed), _flat(at, of, sides.columns)
  is_turned = not _is_constant(columns, is_own, 1)
  if is_turned:
    summed, columns, is_own = summed.T, columns.T, is_own.T
  rows = np.flatnonzero(is_own.any(1))
  order, inputs = columns[rows, 0], summed[rows[0]]
  a, b = arrays["a"].reshape(-1, rank), arrays["b"].reshape(rank, -1)
  length = arrays["length"].reshape(-1)[order] if "length" in arrays else None
  return Part(rows, Module(a[inputs].T, b[:, order].T, length, is_turned))


def _flat(at: dict, of: dict, letters: str) -> np.ndarray:
  """Returns the index over some letters of a weight, for each number of a tensor."""
  index = np.zeros((), int)
  for letter in letters.replace("L", ""):
    index = index * of[letter] + at[letter]
  return index


def _is_constant(index, is_own, axis: int) -> bool:
  """True if an index, where it is a weight's own, is the same all along an axis."""
  low = np.where(is_own, index, index.max()).min(axis)
  high = np.where(is_own, index, 0).max(axis)
  return bool((low == high)[is_own.any(axis)].all())


def _whole(own, leaves: dict, mapping) -> dict[str, np.ndarray]:
  """Returns the tensors of the parameters that were trained as they are."""
  trained = {
    path: np.asarray(x) for path, x in leaves.items() if path in own.shapes_by_path
  }
  whole = {}
  for name, [(row, _), *_] in mapping.sources.items():
    present = [path in trained for path in row.paths]
    if any(present) and not all(present):
      raise Mistake(f"{name} is several parameters of which some were trained whole")
    if all(present):
      whole[name] = mapping.back(name, trained)
  return whole


def _config(run, hf: dict) -> dict:
  """Returns what adapter_config.json has of every kind, but for `modules_to_save`."""
  base, names = run.config["init"]["path"], " ".join(hf.get("architectures", ()))
  task = [task for suffix, task in TASK_OF_SUFFIX.items() if suffix in names]
  return {
    "task_type": task[0] if task else None,
    "base_model_name_or_path": base.removeprefix("hf:").partition("@")[0],
    "inference_mode": True,
  }


def _prompt_config(prompt_VD) -> dict:
  """Returns what adapter_config.json has of a prompt."""
  return {
    "peft_type": "PROMPT_TUNING",
    "num_virtual_tokens": len(prompt_VD),
    "token_dim": prompt_VD.shape[1],
    "num_transformer_submodules": 1,  # an encoder alone reads it
  }


def _lora_config(options, modules: dict) -> dict:
  """Returns what adapter_config.json has of LoRA."""
  ranks = {name: len(m.A) for name, m in modules.items() if len(m.A) != options.rank}
  return {
    "peft_type": "LORA",
    "r": options.rank,
    "lora_alpha": options.alpha,
    "rank_pattern": ranks,
    "alpha_pattern": {name: options.scale * rank for name, rank in ranks.items()},
    "use_dora": options.dora,
    "target_modules": sorted(modules),
    "fan_in_fan_out": any(module.is_turned for module in modules.values()),
  }
