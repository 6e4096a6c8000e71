"""GGUF files, of llama.cpp: their weights dequantised, one tensor at a time.

What a file says is told as a config.json would, and its tensors under the names of
Hugging Face's, so that the tables of the families fit: what llama.cpp changed on the
way (queries and keys in the order of its rotary embedding) is undone.
"""

import math
import re
from pathlib import Path

import numpy as np

from lm.disk.gguf import GgufFile
from lm.disk.safetensors import Tensor
from lm.errors import Mistake
from lm.stores.hf.config import Theirs

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
KINDS = ("llama", "qwen2", "qwen3")
PERMUTED = ("llama",)  # their queries and keys turn neighbours, not halves
# How Llama 3.1 and later were stretched; a file holds only what comes out of it.
LLAMA_3 = dict(low_freq_factor=1.0, high_freq_factor=4.0)
FACTORS = "rope_freqs.weight"
LLAMA_3 |= dict(rope_type="llama3", original_max_position_embeddings=8192)


class Gguf:
  """`config` and `tensors` of a file: a source for the engine."""

  def __init__(self, path):
    self.path = Path(path)
    self._file = GgufFile(path)
    kind = self._told("general.architecture")
    if kind not in KINDS:
      raise Mistake(f"{path} holds a {kind!r}; known: {', '.join(KINDS)}")
    stored = self._file.tensors
    self._name = {_theirs(name): name for name in stored if name != FACTORS}
    self.tensors = {
      theirs: Tensor("F32", stored[name].shape) for theirs, name in self._name.items()
    }
    self.config = Theirs(self._config(kind))

  def _told(self, key: str, absent=None):
    value = self._file.fields.get(key, absent)
    if value is None:
      raise Mistake(f"{self.path} does not say {key!r}; it is not whole")
    return value

  def _config(self, kind: str) -> dict:
    told = lambda key, absent=None: self._told(f"{kind}.{key}", absent)
    width, heads = told("embedding_length"), told("attention.head_count")
    table = "model.embed_tokens.weight"
    if table not in self.tensors:
      raise Mistake(f"{self.path} has no token_embd.weight; it is not whole")
    config = dict(
      model_type=kind,
      vocab_size=self.tensors[table].shape[0],
      hidden_size=width,
      num_hidden_layers=told("block_count"),
      num_attention_heads=heads,
      num_key_value_heads=told("attention.head_count_kv", heads),
      head_dim=told("attention.key_length", width // max(heads, 1)),
      intermediate_size=told("feed_forward_length"),
      max_position_embeddings=told("context_length"),
      rms_norm_eps=_shortest(told("attention.layer_norm_rms_epsilon")),
      tie_word_embeddings="lm_head.weight" not in self.tensors,
      attention_bias=kind == "llama" and "blk.0.attn_q.bias" in self._file.tensors,
    )
    rope = {"rope_theta": _shortest(told("rope.freq_base", 10_000.0))}
    scaling = told("rope.scaling.type", "none")
    if scaling != "none":
      rope |= {"rope_type": scaling, "factor": told("rope.scaling.factor")}
      context = told("rope.scaling.original_context_length", 0)
      rope |= {"original_max_position_embeddings": context} if context else {}
    if FACTORS in self._file.tensors:
      rope |= self._llama_3(config["head_dim"], rope["rope_theta"])
    return config | {"rope_parameters": rope}

  def _llama_3(self, H: int, theta: float) -> dict:
    """The rope_parameters that these factors came from."""
    factors = self._file.read(FACTORS)
    told = LLAMA_3 | {"factor": float(factors.max())}
    turns = theta ** (-2 * np.arange(H // 2) / H) * 8192 / (2 * math.pi)
    kept = np.clip((turns - 1) / (4 - 1), 0, 1)
    wanted = 1 / (kept + (1 - kept) / told["factor"])
    if factors.shape != wanted.shape or not np.allclose(factors, wanted, rtol=1e-4):
      raise Mistake(
        f"{self.path} has rope_freqs.weight that are not those of Llama 3.1 and later, "
        "which is not built here"
      )
    return told

  def read(self, name: str) -> np.ndarray:
    """A tensor in float32."""
    array = self._file.read(self._name[name])
    heads = {"q": "num_attention_heads", "k": "num_key_value_heads"}
    projection = re.search(r"self_attn\.([qk])_proj", name)
    if projection and self.config["model_type"] in PERMUTED:
      return _halves(array, self.config[heads[projection[1]]])
    return array

  def forget(self):
    self._file.forget()

  def notes(self) -> dict[str, bytes]:
    return {}

  def layout(self) -> dict:
    return {}


def _shortest(value: float) -> float:
  """1e-5 for the float32 nearest to it, which in float64 is 9.99999974e-06."""
  return float(str(np.float32(value)))


def _halves(array: np.ndarray, heads: int) -> np.ndarray:
  """Rows of each head with the even ones first, as Hugging Face's rotary wants them."""
  rest = array.shape[1:]
  pairs = array.reshape(heads, -1, 2, *rest)
  return pairs.swapaxes(1, 2).reshape(-1, *rest)


def _theirs(name: str) -> str:
  """Hugging Face's name of a tensor; its own where there is none."""
  found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
  if not found or found[2] not in NAMES:
    return name
  layer = "" if found[1] is None else f"model.layers.{found[1]}."
  return f"{layer}{NAMES[found[2]]}.{found[3]}"
