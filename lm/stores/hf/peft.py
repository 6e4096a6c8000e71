"""Adapters of peft: a folder with adapter_config.json and adapter_model.safetensors.

Reading gives the model that the adapter was made for, with LoRA or DoRA merged into its
tensors, whatever its family: y = W x + b + s B A x, and in DoRA the rows of W + s B A
scaled to `lora_magnitude_vector` (arXiv:2106.09685, 2402.09353). Of prompt tuning
(arXiv:2104.08691) it gives the vectors as lm/adapt/prompt.py has them, and a tokenizer
that begins with their ids; without a tokenizer they are those behind the vocabulary.
peft_export.py writes.
"""

import json
import math
import re
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lm import stores, trees
from lm.data.tokenizers import prompted, vocabulary
from lm.disk import json_file
from lm.disk.safetensors import File
from lm.errors import Mistake
from lm.stores.hf import HfStore
from lm.stores.hf.task_heads import HEAD_OF_CLASS, names_of
from lm.stores.store import abstract

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROOT = "base_model.model."
PROMPT_ROOT = "base_model."  # beside a prompt
PROMPT = "prompt_embeddings"
SUFFIX_OF_TASK = {
  "SEQ_CLS": "ForSequenceClassification",
  "TOKEN_CLS": "ForTokenClassification",
  "QUESTION_ANS": "ForQuestionAnswering",
}
# Values of adapter_config.json that make another model of the same tensors.
NOT_READ = ("layer_replication", "target_parameters", "trainable_token_indices")
STARTS = ("pissa", "olora", "corda", "eva", "loftq", "lora_ga")  # change the base


class PeftStore(HfStore):
  """The model of a folder of Hugging Face with an adapter of peft merged into it.

  A prompt is beside its table of tokens.
  """

  def __init__(self, path, *, family: str = ""):
    self.path = Path(path)
    config = json_file.read(self.path / CONFIG)
    _check(self.path, config)
    name = str(config.get("base_model_name_or_path"))
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).exists()
    try:
      self.base = stores.open(f"hf:{name}" if is_name else name)
    except Mistake as mistake:
      raise Mistake(
        f"{self.path} is an adapter of {name}, as its {CONFIG} says: {mistake}"
      ) from mistake
    if not isinstance(self.base, HfStore):
      raise Mistake(
        f"{self.path} is an adapter of {name}, which is no folder of Hugging Face"
      )
    self._open(Merged(self.path, config, self.base), family)
    self._prompt_VD = self.source.prompt(self.model)

  @property
  def tokenizer_path(self) -> Path | None:
    return super().tokenizer_path or self.base.tokenizer_path

  def tokenizer(self):
    tokenizer = super().tokenizer()
    if tokenizer is None or self._prompt_VD is None:
      return tokenizer
    return prompted.begun(tokenizer, len(self._prompt_VD))

  def _read(self, wanted: dict, *, stay: bool) -> dict:
    params, table = super()._read(wanted, stay=stay), wanted.get("embed/table")
    if self._prompt_VD is None or table is None:
      return params
    from lm.adapt.prompt import Prompted

    where, tokenizer = table.sharding, self.tokenizer()
    if isinstance(where, NamedSharding):
      where = NamedSharding(where.mesh, PartitionSpec())
    prompt_VD = jax.device_put(self._prompt_VD.astype(table.dtype), where)
    first = vocabulary.front(tokenizer)[0] if tokenizer else self.fields["vocab"]
    return params | {"embed/table": Prompted(params["embed/table"], prompt_VD, first)}


class Merged:
  """The tensors of a base with those of an adapter merged, as a source of a store."""

  def __init__(self, path: Path, config: dict, base: HfStore):
    if not (path / WEIGHTS).is_file():
      raise Mistake(f"{path} has no {WEIGHTS}; weights in other files are not read")
    self.path, self._adapter, self._base = path, config, base.source
    self._file = File(path / WEIGHTS)
    self._loras = {}  # tensor of the base -> {"lora_A": name in the adapter's file}
    self._replaced = {}  # tensor -> name in the adapter's file
    self.tensors = self._base_tensors(base.family.PREFIX)
    for name in self._file.tensors:
      if name != PROMPT:
        self._place(name)
    for name, own in self._replaced.items():
      self.tensors[name] = self._file.tensors[own]
    self.config = self._config(base)

  def _base_tensors(self, prefix: str) -> dict:
    """Returns the base's tensors; of a body alone under the names below a head.

    A head that the adapter's task has not is left out.
    """
    tensors = dict(self._base.tensors)
    if self._adapter.get("task_type") in SUFFIX_OF_TASK:
      heads = ("cls.", "lm_head.", "vocab_", "classifier.", "qa_outputs.")
      tensors = {n: t for n, t in tensors.items() if not n.startswith(heads)}
    if not any(name.startswith(prefix) for name in tensors):
      tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    self._name_in_base = {
      name: name if name in self._base.tensors else name.removeprefix(prefix)
      for name in tensors
    }
    self._prefix = prefix
    return tensors

  def _place(self, own: str):
    """Sorts a tensor of the adapter under the tensor of the base that it changes."""
    if ".original_module." in own:
      return  # a copy of the base's, beside the one that was trained
    name = own.removeprefix(ROOT).removeprefix(PROMPT_ROOT)
    for wrapper in (".base_layer.", ".modules_to_save."):
      name = name.replace(wrapper, ".")
    module, _, kind = name.partition(".lora_")
    if not kind:
      self._replaced[self._resolved(name)] = own
      return
    kind = kind.removesuffix(".weight")
    if kind not in ("A", "B", "magnitude_vector", "embedding_A", "embedding_B"):
      raise Mistake(f"{self.path / WEIGHTS} has {own}, which is not read here")
    weight = self._resolved(f"{module}.weight")
    if weight not in self.tensors:
      raise Mistake(f"{self.path / WEIGHTS} has {own}, and its base no {weight}")
    tied = self._base.config.get("tie_word_embeddings", True)
    if "embedding" in kind and tied:
      raise Mistake(
        f"{self.path} adapts {module} of a model whose readout is tied to it: merged, "
        "it would be another model"
      )
    self._loras.setdefault(weight, {})[kind.removeprefix("embedding_")] = own

  def _resolved(self, name: str) -> str:
    candidates = (name, self._prefix + name, name.removeprefix(self._prefix))
    return next((n for n in candidates if n in self.tensors), name)

  def _config(self, base: HfStore) -> dict:
    """Returns config.json of the base, with the head of the adapter's task."""
    config, task = dict(self._base.config), self._adapter.get("task_type")
    if task not in SUFFIX_OF_TASK:
      return config
    suffixes = "|".join(HEAD_OF_CLASS)
    names = config.get("architectures") or [base.family.__name__.rpartition(".")[2]]
    prefix = re.sub(f"({suffixes})$", "", names[0])
    config["architectures"] = [prefix + SUFFIX_OF_TASK[task]]
    sizes = [t.shape[0] for n, t in self.tensors.items() if n == "classifier.weight"]
    if sizes and len(config.get("id2label", ())) != sizes[0]:
      config |= names_of([f"LABEL_{i}" for i in range(sizes[0])])
    return config

  def read(self, name: str):
    """Returns a tensor, with its adapter merged in float32."""
    if name in self._replaced:
      return self._file.read(self._replaced[name])
    w = self._base.read(self._name_in_base[name])
    if name not in self._loras:
      return w
    own = {
      kind: self._file.read(tensor).astype(np.float32)
      for kind, tensor in self._loras[name].items()
    }
    delta = self._scale(name, len(own["A"])) * (own["B"] @ own["A"])
    is_turned = self._adapter.get("fan_in_fan_out") or w.shape != delta.shape
    w = np.asarray(w, np.float32) + (delta.T if is_turned else delta)
    if "magnitude_vector" not in own:
      return w
    length = np.linalg.norm(w, axis=0 if is_turned else 1)
    ratio = own["magnitude_vector"].reshape(-1) / np.maximum(length, 1e-12)
    return w * (ratio if is_turned else ratio[:, None])

  def prompt(self, model):
    """Returns the vectors of a prompt in float32, None where the adapter is LoRA.

    Raises Mistake where they do not fit the model.
    """
    if self._adapter["peft_type"] != "PROMPT_TUNING":
      return None
    context, table = model.config.context, "embed/table"
    width = trees.by_path(abstract(model)[0])[table].shape[1]
    shape = (self._adapter.get("num_virtual_tokens"), width)
    stored = PROMPT in self._file.tensors
    own = tuple(self._file.tensors[PROMPT].shape) if stored else "absent"
    if own != shape:
      raise Mistake(f"{self.path / WEIGHTS}: {PROMPT} is {own}; wanted {shape}")
    if 0 < context <= shape[0]:
      raise Mistake(
        f"{self.path} has a prompt of {shape[0]} tokens, and its base a context of "
        f"{context}; no text fits behind it"
      )
    return self._file.read(PROMPT).astype(np.float32)

  def _scale(self, name: str, rank: int) -> float:
    module, alpha = name.removesuffix(".weight"), self._adapter.get("lora_alpha", 8)
    for pattern, value in (self._adapter.get("alpha_pattern") or {}).items():
      if re.fullmatch(rf"(.*\.)?({pattern})", module):
        alpha = value
        break
    return alpha / (math.sqrt(rank) if self._adapter.get("use_rslora") else rank)

  def forget(self):
    """Gives the memory of tensors that were read back to the system."""
    self._base.forget()
    self._file.forget()

  def notes(self) -> dict[str, bytes]:
    """Returns the small files by name: those of the base but for its config.json."""
    config = json.dumps(self.config, indent=2).encode()
    return self._base.notes() | {"config.json": config}

  def paths(self) -> list[Path]:
    """Returns all files that the model is read from."""
    return [*self._base.paths(), self.path / CONFIG, self.path / WEIGHTS]

  def layout(self) -> dict:
    """Returns where each tensor would be: in one file, as float32."""
    dtypes = dict.fromkeys(self.tensors, "F32")
    return {"model.safetensors": {"metadata": {"format": "pt"}, "dtypes": dtypes}}


def _check(path: Path, config: dict):
  """Raises Mistake for an adapter of another kind, or that needs another base."""
  kind = config.get("peft_type")
  if kind not in ("LORA", "PROMPT_TUNING"):
    raise Mistake(
      f"{path / CONFIG} has peft_type={kind!r}; wanted LORA or PROMPT_TUNING"
    )
  parts = config.get("num_transformer_submodules") or 1
  if parts != 1:
    raise Mistake(
      f"{path / CONFIG} has num_transformer_submodules={parts}: vectors for a decoder "
      "too, which is not read here"
    )
  for key in NOT_READ:
    if config.get(key):
      raise Mistake(
        f"{path / CONFIG} has {key}={config[key]!r}, which is not read here"
      )
  start = str(config.get("init_lora_weights", "")).lower()
  if start.startswith(STARTS):
    raise Mistake(
      f"{path / CONFIG} has init_lora_weights={start!r}, by which training changed the "
      "base as well; save it with peft's conversion to LoRA"
    )
