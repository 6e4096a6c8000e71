"""Hostile and misfit folders: a one-line error, nothing run, nothing written."""

import json
import shutil

import numpy as np
import pytest
from hf_models import saved, write

import lm
from lm.disk.safetensors import File, Tensor
from lm.stores.hf.folder import INDEX, WEIGHTS


def changed(folder, target, edit=None, **config):
  """Copies a folder, with other tensors or other values in its config.json."""
  shutil.copytree(folder, target)
  fields = json.loads((target / "config.json").read_text())
  (target / "config.json").write_text(json.dumps(fields | config))
  if edit is not None:
    file = File(folder / WEIGHTS)
    arrays = edit({name: np.array(file.read(name)) for name in file.tensors})
    names = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}
    tensors = {k: Tensor(names[v.dtype], v.shape) for k, v in arrays.items()}
    write(target / WEIGHTS, tensors, arrays.get)
  return target


def without(name):
  return lambda arrays: {k: v for k, v in arrays.items() if k != name}


def replaced(name, value):
  return lambda arrays: arrays | {name: value(arrays[name])}


K = "model.layers.1.self_attn.k_proj.weight"
EDITS = {
  "missing": (without(K), f"no tensor {K} of [16, 32]; there are 1 like it"),
  "untied": (without("lm_head.weight"), "no tensor lm_head.weight of [61, 32]; config"),
  "transposed": (
    replaced(K, lambda x: x.T.copy()),
    f"{K} is [32, 16], wanted [16, 32]; the same number of values",
  ),
  "small": (replaced(K, lambda x: x[:8]), f"{K} is [8, 32], wanted [16, 32]; config"),
  "whole numbers": (replaced(K, lambda x: x.astype(np.int64)), f"{K} is I64, which is"),
  "not finite": (replaced(K, lambda x: x * np.nan), f"{K} has values that are not fin"),
  "left over": (
    lambda arrays: arrays | {"adapter.weight": arrays[K], "more": arrays[K]},
    "adapter.weight [16, 32] and 1 more would not be used; this family has no such",
  ),
}
CONFIGS = {
  "fewer layers": (dict(num_hidden_layers=1), "would not be used; config.json has few"),
  "more layers": (dict(num_hidden_layers=3), "no tensor model.layers.2."),
  "a million layers": (dict(num_hidden_layers=10**6), "says 1000000 layers, the files"),
  "absurd": (dict(vocab_size=2**62), "vocab_size=4611686018427387904 in config.json"),
  "huge": (dict(vocab_size=2**30), "is [61, 32], wanted [1073741824, 32]; config.json"),
  "negative": (dict(hidden_size=-32), "hidden_size=-32 in config.json; wanted a whole"),
  "words": (dict(num_attention_heads="four"), "num_attention_heads='four' in config"),
  "indivisible": (dict(num_key_value_heads=3), "kv_heads=3 does not divide heads=4"),
  "another family": (
    dict(model_type="wav2vec2"),
    "no model_type 'wav2vec2'; found: bart, be",
  ),
  "another rope": (dict(rope_parameters={"rope_type": "su"}), "no rope_type 'su' here"),
  "another activation": (dict(hidden_act="relu6"), "no activation 'relu6' in a gated"),
  "code": (dict(auto_map={"AutoModel": "evil.Model"}), "brings its own code (auto_map"),
  "quantised": (
    dict(quantization_config={"quant_method": "fp8"}),
    "is quantised (quantization_config in config.json), with scales",
  ),
  "a list": (dict(rms_norm_eps=[1]), "gives eps=[1], which makes no sense"),
}


def refusal(folder) -> str:
  with pytest.raises(ValueError) as raised:
    lm.load(folder)
  assert "\n" not in str(raised.value)
  return str(raised.value)


@pytest.mark.parametrize("name", EDITS)
def test_tensors_that_do_not_fit(name, tmp_path):
  edit, reason = EDITS[name]
  _, folder = saved("llama, grouped")
  assert reason in refusal(changed(folder, tmp_path / "bad", edit))


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_do_not_fit(name, tmp_path):
  values, reason = CONFIGS[name]
  _, folder = saved("llama, grouped")
  assert reason in refusal(changed(folder, tmp_path / "bad", **values))


def test_a_config_that_lacks_a_key(tmp_path):
  folder = changed(saved("gpt2")[1], tmp_path / "bad")
  fields = json.loads((folder / "config.json").read_text())
  del fields["n_embd"]
  (folder / "config.json").write_text(json.dumps(fields))
  assert "config.json of a 'gpt2' lacks 'n_embd'" in refusal(folder)


def test_files_that_do_not_fit(tmp_path):
  folder = changed(saved("gpt2")[1], tmp_path / "bad")
  (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
  assert "has its weights in pytorch_model.bin, not in safetensors" in refusal(folder)
  (folder / "pytorch_model.bin").rename(tmp_path / "elsewhere")
  assert "has no model.safetensors" in refusal(folder)
  for name in ("../elsewhere", "/etc/passwd", "a/b.safetensors", ".hidden.safetensors"):
    index = {"weight_map": {"x": name}}
    (folder / INDEX).write_text(json.dumps(index))
    assert f"names {name!r}; wanted plain names" in refusal(folder)
  index = {"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}
  (folder / INDEX).write_text(json.dumps(index))
  assert "lacks 2 of 2 shards: 1.safetensors, 2.safetensors" in refusal(folder)
  (folder / "config.json").write_text("{" + '"a":{' * 99_999)
  assert "config.json is damaged" in refusal(folder)
