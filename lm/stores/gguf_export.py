"""Writes a model as a .gguf file, which llama.cpp and what is built on it read.

A model becomes a config.json and tensors of Hugging Face by the families of hf/, and
these the keys and tensors that gguf.py reads: it opens the new file before any weights
are in it, and what the file cannot say is refused then.
"""

import contextlib
import os
from pathlib import Path

import numpy as np

from lm import trees
from lm.data.tokenizers import gguf_export as tokenizers
from lm.disk import atomic, gguf_blocks
from lm.errors import Mistake, one_of
from lm.stores.gguf import (
  FACTORS,
  LLAMA_3,
  NAMES,
  PERMUTED,
  GgufStore,
  llama_3_factors,
)
from lm.stores.gguf_keys import rope_keys
from lm.stores.hf import engine, export, families, mapping_of
from lm.stores.hf.config import HfConfig
from lm.stores.store import abstract

# Dtypes of tensors -> their kind in a file.
DTYPES = engine.NAMES | {"q8_0": "Q8_0", "q4_0": "Q4_0"}
# Kind -> numbers in a block, and the kind for rows that are not in whole blocks.
BLOCKS = {"Q8_0": (32, "F16"), "Q4_0": (32, "F16"), "Q6_K": (256, "Q8_0")}
# model_type of a config.json -> architecture.
ARCHITECTURE_OF = {kind: kind for kind in ("llama", "qwen2", "qwen3")}
ARCHITECTURE_OF |= {"mistral": "llama"}
EMBEDDING, READOUT = "token_embd.weight", "output.weight"


def write(target, store, *, family: str = "", dtype: str = "", log=print):
  """Writes the model of a store into the new file `target`; returns the model.

  `family` is a model_type, by default the first that can represent the model; `dtype` a
  key of DTYPES, by default that of the store's parameters. Vectors stay float32, and
  the readout of a Q4_0 file has 6 or 8 bits, as llama.cpp's quantiser has it. One
  parameter is in memory at a time. `log` takes a line about a window of attention,
  which llama.cpp does not have here. Raises Mistake when `target` exists and for what
  no such file can say.
  """
  target = Path(target)
  dtype = one_of("dtype", (dtype or store.params_dtype).lower(), DTYPES)
  if os.path.lexists(target):
    raise Mistake(f"{target} exists; choose another, or move it away")
  hf = _config(store, family)
  file = _NewModel(target.stem, hf, store, DTYPES[dtype])
  if (window := hf.get("sliding_window")) and window < hf["max_position_embeddings"]:
    log(
      f"llama.cpp has no window of {window} in this architecture: behind it it differs"
    )
  with _explained(target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.open(target) as opened:
      file.write(opened.name)
  return store.model


def _config(store, family: str) -> HfConfig:
  """Returns the config.json of a store's model; Mistake without an architecture."""
  model, names = store.model, ", ".join(ARCHITECTURE_OF)
  own = export.function_of(model)["family"]
  if own not in {families.find(kind).FAMILY for kind in ARCHITECTURE_OF}:
    raise Mistake(f"{store.path} is a {own}; GGUF files are written of {names}")
  hf = export.config_of(model, family)
  if hf["model_type"] not in ARCHITECTURE_OF:
    kind = hf["model_type"]
    raise Mistake(f"{store.path} is a {kind}; GGUF files are written of {names}")
  return hf


@contextlib.contextmanager
def _explained(target: Path):
  """A block in which an OSError is the user's mistake: a full disk, no permission."""
  try:
    yield
  except OSError as error:
    reason = error.strerror or error
    raise Mistake(
      f"{target} could not be made: {reason}; choose a folder that can be written"
    ) from error


class _NewModel:
  """A model on its way into a file: its keys, and its tensors in their order."""

  def __init__(self, name: str, hf: HfConfig, store, kind: str):
    self._store, self._hf = store, hf
    self._mapping = mapping_of(families.find(hf["model_type"]), hf, store.model)
    self._architecture = ARCHITECTURE_OF[hf["model_type"]]
    self._units = self._mapping.units()
    shapes = self._mapping.tensors
    self._factors = _factors(hf, self._architecture)
    self._kinds = {} if self._factors is None else {FACTORS: "F32"}
    self._shapes = {} if self._factors is None else {FACTORS: self._factors.shape}
    tied = hf["tie_word_embeddings"]
    for hf_name in (name for _, names in self._units for name in names):
      stored = _stored_name(hf_name)
      self._kinds[stored] = _kind(stored, shapes[hf_name], kind, tied)
      self._shapes[stored] = shapes[hf_name]
    own = _keys(hf) | ({} if store.tokenizer() else {"vocab_size": hf["vocab_size"]})
    self._keys = {"general.type": "model", "general.name": name}
    self._keys |= {"general.file_type": _file_type(kind)}
    self._keys |= {"general.quantization_version": 2}  # of all blocks since 2023
    self._keys |= {f"{self._architecture}.{key}": own[key] for key in own}
    self._keys |= tokenizers.fields(store.tokenizer(), hf["vocab_size"])

  def write(self, path: str):
    """Writes the file; Mistake, before the weights, for what it could not say."""
    import gguf

    wanted = abstract(self._store.model)[0]
    params = trees.by_path(self._store.params(wanted, stay=True))
    self._mapping.check_constants(params)
    writer = gguf.GGUFWriter(path, self._architecture)
    for key, value in self._keys.items():
      _add(writer, key, value)
    for name, kind in self._kinds.items():
      kind = gguf.GGMLQuantizationType[kind]
      row, size = gguf.GGML_QUANT_SIZES[kind]
      shape = self._shapes[name]
      nbytes = int(np.prod(shape)) // row * size
      writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, kind)
    with contextlib.closing(writer):
      writer.write_header_to_file()
      writer.write_kv_data_to_file()
      writer.write_ti_data_to_file()
      self._write_tensors(writer, path, params)

  def _write_tensors(self, writer, path: str, params: dict):
    end = writer.ggml_pad(writer.fout[0].tell(), writer.data_alignment)
    for info in writer.tensors[0].values():
      end += writer.ggml_pad(info.nbytes, writer.data_alignment)
    if self._factors is not None:
      writer.write_tensor_data(self._factors)
    writer.flush()
    os.truncate(path, end)  # as long as it will be, for the reader
    self._check(path)
    for paths, names in self._units:
      arrays = {path: np.asarray(params[path]) for path in paths}
      for name in names:
        stored, array = _stored_name(name), self._mapping.back(name, arrays)
        array = np.ascontiguousarray(_permuted(name, array, self._hf), np.float32)
        writer.write_tensor_data(_encoded(stored, array, self._kinds[stored]))

  def _check(self, path: str):
    """Raises Mistake unless the keys of the file make the same model."""
    wanted = export.function_of(self._store.model)
    actual = export.function_of(GgufStore(path, family=self._hf["model_type"]).model)
    lost = [f"{k}={value!r}" for k, value in wanted.items() if actual[k] != value]
    if lost:
      architecture = self._architecture
      raise Mistake(f"a GGUF file of {architecture} cannot say {', '.join(lost)}")


def _keys(hf: HfConfig) -> dict:
  """Returns the keys of an architecture, without its name: see Gguf in gguf.py."""
  H = hf["head_dim"]
  keys = {
    "context_length": hf["max_position_embeddings"],
    "embedding_length": hf["hidden_size"],
    "block_count": hf["num_hidden_layers"],
    "feed_forward_length": hf["intermediate_size"],
    "attention.head_count": hf["num_attention_heads"],
    "attention.head_count_kv": hf["num_key_value_heads"],
    "attention.key_length": H,
    "attention.value_length": H,
    "attention.layer_norm_rms_epsilon": float(hf["rms_norm_eps"]),
    "rope.dimension_count": H,
  }
  if window := hf.get("sliding_window"):
    keys["attention.sliding_window"] = window
  return keys | rope_keys(hf["rope_parameters"])


def _factors(hf: HfConfig, architecture: str):
  """Returns Llama 3's factors of frequencies, None for other rotary positions.

  Raises Mistake for others than those of Llama 3.1, which readers take for granted.
  """
  params = hf["rope_parameters"]
  if params["rope_type"] != "llama3":
    return None
  differing = [f"{k}={params[k]}" for k, value in LLAMA_3.items() if params[k] != value]
  if differing or architecture != "llama":
    listed = ", ".join(differing) or f"rope_type='llama3' of {architecture}"
    raise Mistake(f"a GGUF file has Llama 3.1's scaling of positions, and not {listed}")
  return llama_3_factors(hf["head_dim"], params)


def _stored_name(hf_name: str) -> str:
  """Returns the name of a tensor in a file; Mistake where it has none."""
  stem, _, suffix = hf_name.rpartition(".")
  layer = ""
  if stem.startswith("model.layers."):
    _, _, number, stem = stem.split(".", 3)
    layer = f"blk.{number}."
  for name, known in NAMES.items():
    if known == stem:
      return f"{layer}{name}.{suffix}"
  raise Mistake(f"a GGUF file has no tensor for {hf_name}")


def _kind(name: str, shape: tuple, kind: str, tied: bool) -> str:
  """Returns the kind of a tensor in a file of a kind, as llama.cpp's quantiser."""
  if len(shape) < 2:
    return "F32"
  if kind == "Q4_0" and name == (EMBEDDING if tied else READOUT):
    kind = "Q6_K"
  while kind in BLOCKS and shape[-1] % BLOCKS[kind][0]:
    kind = BLOCKS[kind][1]
  return kind


def _encoded(name: str, array: np.ndarray, kind: str) -> np.ndarray:
  """Returns float32 as a kind; Mistake where a number becomes infinite."""
  if kind in BLOCKS:
    return gguf_blocks.quantise(array, kind)
  return engine.rounded(name, array, kind)


def _permuted(name: str, array: np.ndarray, hf: HfConfig) -> np.ndarray:
  """Returns queries and keys with each pair of rows that turns together side by side.

  The inverse of what gguf.py undoes; other tensors stay.
  """
  heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
  key = heads.get(name.split(".")[-2])
  if key is None or ARCHITECTURE_OF[hf["model_type"]] not in PERMUTED:
    return array
  rest = array.shape[1:]
  halves = array.reshape(hf[key], 2, -1, *rest)
  return halves.swapaxes(1, 2).reshape(-1, *rest)


def _file_type(kind: str) -> int:
  from gguf import LlamaFileType

  return int(LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"])


def _add(writer, key: str, value):
  """Adds a key with the type that llama.cpp reads it by."""
  if isinstance(value, bool):
    writer.add_bool(key, value)
  elif isinstance(value, int):
    writer.add_uint32(key, value)
  elif isinstance(value, float):
    writer.add_float32(key, value)
  elif isinstance(value, str):
    writer.add_string(key, value)
  else:
    writer.add_array(key, value)
