"""GGUF files, of llama.cpp: their weights dequantised, one tensor at a time.

A file is presented as a config.json and tensors of Hugging Face, so that the families
of hf/ read it. What llama.cpp's converter changed (queries and keys in the order of its
rotary embedding) is undone.
"""

import math
import re
from pathlib import Path

import numpy as np

from lm.disk.gguf import GgufFile
from lm.disk.safetensors import Tensor
from lm.errors import Mistake
from lm.nn import quantised
from lm.stores.gguf_keys import Keys, rope_parameters
from lm.stores.hf import HfStore
from lm.stores.hf.config import HfConfig

# Name of a tensor here -> there.
NAMES = {
  "token_embd": "model.embed_tokens",
  "output_norm": "model.norm",
  "output": "lm_head",
  "attn_norm": "input_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "attn_q_norm": "self_attn.q_norm",
  "attn_k_norm": "self_attn.k_norm",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}
ARCHITECTURES = ("llama", "qwen2", "qwen3")
PERMUTED = ("llama",)  # rotary turns neighbours of queries and keys, not halves
# Rope scaling of Llama 3.1 and later; a file has only the factors that result.
LLAMA_3 = dict(low_freq_factor=1.0, high_freq_factor=4.0)
FACTORS = "rope_freqs.weight"
KEPT = {"Q8_0": "int8_groups", "Q4_0": "int4"}  # kind of a tensor -> of our matrix
LLAMA_3 |= dict(rope_type="llama3", original_max_position_embeddings=8192)


class GgufStore(HfStore):
  """A model in a .gguf file."""

  def __init__(self, path, *, family: str = ""):
    self.path = Path(path)
    if not self.path.is_file():
      raise Mistake(
        f"{path} is neither a Hugging Face folder (config.json with a model_type) nor "
        "a .gguf file"
      )
    self._open(Gguf(path), family)

  def quantised(self, places: dict) -> dict:
    """Returns {path: Quantised} of parameters whose blocks are kept as they are.

    `places` are those of the parameters that may be; see KEPT for the kinds.
    """
    source, mapping = self.source, self.mapping
    result = {}
    for path, place in places.items():
      kinds = {source.kind(name) for name in mapping.names_of(path)}
      if len(kinds) == 1 and kinds <= KEPT.keys():
        shape = mapping.shape_of(path)
        everything = (slice(None),) * len(shape)
        codes, scales = (
          mapping.into(path, read, everything) for read in (source.codes, source.scales)
        )
        result[path] = quantised.kind(KEPT[kinds.pop()]).stored(codes, scales, place)
    return result

  def keep(self, folder):
    """Keeps nothing: what a file says here, the model says as well."""


class Gguf:
  """`config` and `tensors` of a file: a source for the engine of hf/."""

  def __init__(self, path):
    self.path = Path(path)
    self._file = GgufFile(path)
    architecture = self._architecture()
    self._permuted = architecture in PERMUTED
    stored = self._file.tensors
    self._stored_name = {_hf_name(name): name for name in stored if name != FACTORS}
    self.tensors = {
      hf: Tensor("F32", stored[name].shape) for hf, name in self._stored_name.items()
    }
    self.config = HfConfig(self._config(architecture))

  def _architecture(self) -> str:
    """Returns the architecture of a whole model; Mistake for any other file."""
    fields = self._file.fields
    parts, kind = fields.get("split.count", 0), fields.get("general.type", "model")
    if parts not in (0, 1):
      raise Mistake(
        f"{self.path} is one of {parts} parts of a model; join them first, with "
        "llama-gguf-split --merge"
      )
    if kind != "model":
      raise Mistake(f"{self.path} holds no model but {kind!r} (general.type)")
    architecture = fields.get("general.architecture")
    if architecture not in ARCHITECTURES:
      names = ", ".join(ARCHITECTURES)
      raise Mistake(f"{self.path} holds a {architecture!r}; known: {names}")
    return architecture

  def _config(self, architecture: str) -> dict:
    """Returns the keys of the architecture as a config.json has them."""
    keys = Keys(self.path, architecture, self._file.fields)
    table = "model.embed_tokens.weight"
    if table not in self.tensors:
      raise Mistake(f"{self.path} has no token_embd.weight; it is not whole")
    width, heads = keys.size("embedding_length"), keys.size("attention.head_count")
    rows, context = self.tensors[table].shape[0], keys.size("context_length")
    H = keys.size("attention.key_length", width // heads or 1)
    config = dict(
      model_type=architecture,
      vocab_size=rows,
      hidden_size=width,
      num_hidden_layers=keys.size("block_count"),
      num_attention_heads=heads,
      num_key_value_heads=keys.size("attention.head_count_kv", heads),
      head_dim=H,
      intermediate_size=keys.size("feed_forward_length"),
      max_position_embeddings=context,
      rms_norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
      tie_word_embeddings="lm_head.weight" not in self.tensors,
      attention_bias=architecture == "llama"
      and "blk.0.attn_q.bias" in self._file.tensors,
      mlp_bias="blk.0.ffn_gate.bias" in self._file.tensors,
      rope_parameters=self._rope(keys, H, context),
    )
    window = keys.size("attention.sliding_window", 0)
    keys.refuse_others(
      {
        "vocab_size": (rows,),
        "embedding_length_out": (width,),
        "rope.dimension_count": (H,),
        "attention.value_length": (H,),
        "attention.scale": (0, H**-0.5),
      }
    )
    return config | (_windowed(architecture, window) if 0 < window < context else {})

  def _rope(self, keys: Keys, H: int, context: int) -> dict:
    """Returns `rope_parameters`; Mistake for two scalings at once."""
    rope = rope_parameters(keys, context)
    if FACTORS not in self._file.tensors:
      return rope
    if "rope_type" in rope:
      raise Mistake(
        f"{self.path} has {FACTORS} and rope.scaling.type={rope['rope_type']!r}; one "
        "of the two is built here"
      )
    return rope | self._llama_3(H, rope["rope_theta"])

  def _llama_3(self, H: int, theta: float) -> dict:
    """Returns the rope_parameters that the stored factors came from.

    Raises Mistake for factors that are not those of Llama 3.1 and later.
    """
    factors = self._file.read(FACTORS)
    params = LLAMA_3 | {"factor": float(factors.max())}
    expected = llama_3_factors(H, params | {"rope_theta": theta})
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-4):
      raise Mistake(
        f"{self.path} has rope_freqs.weight that are not those of Llama 3.1 and later, "
        "which is not built here"
      )
    return params

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor in float32, under its name in Hugging Face's files."""
    return self._restored(name, self._file.read(self._stored_name[name]))

  def kind(self, name: str) -> str:
    """Returns the kind of a tensor's blocks, such as "Q8_0"."""
    return self._file.kind(self._stored_name[name])

  def codes(self, name: str) -> np.ndarray:
    """Returns the whole numbers of a tensor in blocks, as `read` its numbers."""
    return self._restored(name, self._file.blocks(self._stored_name[name])[0])

  def scales(self, name: str) -> np.ndarray:
    """Returns the scale of each of them."""
    return self._restored(name, self._file.blocks(self._stored_name[name])[1])

  def _restored(self, name: str, array: np.ndarray) -> np.ndarray:
    """Returns a tensor with its rows in the order of Hugging Face's files."""
    heads = {"q": "num_attention_heads", "k": "num_key_value_heads"}
    projection = re.search(r"self_attn\.([qk])_proj", name)
    if projection and self._permuted:
      return _halves(array, self.config[heads[projection[1]]])
    return array

  def forget(self):
    """Gives the memory of tensors that were read back to the system."""
    self._file.forget()

  def paths(self) -> list[Path]:
    """Returns all files that the model is read from."""
    return [self.path]


def llama_3_factors(H: int, params: dict) -> np.ndarray:
  """Returns what Llama 3's `rope_parameters` divide each frequency by (float32)."""
  low, high = params["low_freq_factor"], params["high_freq_factor"]
  frequencies = params["rope_theta"] ** (-2 * np.arange(H // 2) / H)
  turns = frequencies * params["original_max_position_embeddings"] / (2 * math.pi)
  unscaled = np.clip((turns - low) / (high - low), 0, 1)
  return np.float32(1 / (unscaled + (1 - unscaled) / params["factor"]))


def _windowed(architecture: str, window: int) -> dict:
  """Returns what a config.json says when queries see so many keys in all layers."""
  if architecture == "llama":
    return dict(model_type="mistral", sliding_window=window)
  return dict(sliding_window=window, use_sliding_window=True, max_window_layers=0)


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
  """Returns the rows of each head with the even ones first, as in Hugging Face's."""
  rest = array.shape[1:]
  pairs = array.reshape(heads, -1, 2, *rest)
  return pairs.swapaxes(1, 2).reshape(-1, *rest)


def _hf_name(name: str) -> str:
  """Returns Hugging Face's name of a tensor; its own where there is none."""
  match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
  if not match or match[2] not in NAMES:
    return name
  layer = "" if match[1] is None else f"model.layers.{match[1]}."
  return f"{layer}{NAMES[match[2]]}.{match[3]}"
