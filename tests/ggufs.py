"""GGUF files of noise, with the keys and tensors that llama.cpp's converter writes."""

import gguf
import numpy as np

from lm.data.tokenizers import bpe

WIDTH, HEADS, KV_HEADS, H, FF, CONTEXT = 32, 4, 2, 8, 48, 64
CONTROL = 3  # the type of a special token


def write(path, tensors, arch="llama", **fields):
  """Writes tensors {name: (array, kind)} and fields by full key; returns the path."""
  writer = gguf.GGUFWriter(path, arch)
  for key, value in fields.items():
    if isinstance(value, list):
      writer.add_array(key, value)
    elif isinstance(value, str):
      writer.add_string(key, value)
    elif isinstance(value, bool):
      writer.add_bool(key, value)
    elif isinstance(value, float):
      writer.add_float32(key, value)
    else:
      writer.add_uint32(key, value)
  for name, (array, kind) in tensors.items():
    writer.add_tensor(name, array, raw_dtype=gguf.GGMLQuantizationType[kind])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def shapes(arch: str, rows: int, layers: int) -> dict:
  """Returns the shapes of a model's tensors by name."""
  layer = {
    "attn_norm.weight": (WIDTH,),
    "attn_q.weight": (HEADS * H, WIDTH),
    "attn_k.weight": (KV_HEADS * H, WIDTH),
    "attn_v.weight": (KV_HEADS * H, WIDTH),
    "attn_output.weight": (WIDTH, HEADS * H),
    "ffn_norm.weight": (WIDTH,),
    "ffn_gate.weight": (FF, WIDTH),
    "ffn_up.weight": (FF, WIDTH),
    "ffn_down.weight": (WIDTH, FF),
  }
  if arch == "qwen2":
    sizes = {"q": HEADS * H, "k": KV_HEADS * H, "v": KV_HEADS * H}
    layer |= {f"attn_{name}.bias": (size,) for name, size in sizes.items()}
  if arch == "qwen3":
    layer |= {"attn_q_norm.weight": (H,), "attn_k_norm.weight": (H,)}
  named = {
    f"blk.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()
  }
  return named | {"token_embd.weight": (rows, WIDTH), "output_norm.weight": (WIDTH,)}


def tiny(path, arch="llama", *, rows=258, layers=2, keys=None, **fields):
  """Writes a model of noise; `keys` are of the architecture, None takes one away."""
  draw = np.random.default_rng(0)
  tensors = {
    name: (draw.standard_normal(shape, np.float32) * 0.3, "F32")
    for name, shape in shapes(arch, rows, layers).items()
  }
  values = {
    "embedding_length": WIDTH,
    "block_count": layers,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "feed_forward_length": FF,
    "context_length": CONTEXT,
    "rope.freq_base": 500.0,
  } | (keys or {})
  values = {f"{arch}.{k}": value for k, value in values.items() if value is not None}
  return write(path, tensors, arch, **values, **fields)


def tokenizer(special, pre="gpt-2", **keys) -> dict:
  """Returns the fields of a byte-level BPE: bytes, "ab", then the special tokens."""
  byte_of_char = bpe.byte_of_char()
  texts = [*sorted(byte_of_char, key=byte_of_char.get), "ab", *special]
  fields = {
    "model": "gpt2",
    "pre": pre,
    "tokens": texts,
    "token_type": [1] * 257 + [CONTROL] * len(special),
    "merges": ["a b"],
  } | keys
  return {f"tokenizer.ggml.{k}": value for k, value in fields.items()}
