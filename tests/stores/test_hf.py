"""Hugging Face folders: read with the same logits, written byte for byte.

Logits through the cache and of more flavours are in test_hf_parity.py, whose weights go
through the same tables; hostile folders are in test_hf_hostile.py.
"""

import copy
import json
import shutil

import jax
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, tokens
from hf_models import FLAVOURS, HEADS, bytes_of, logits, saved, write

import lm
from lm import models, stores, trees
from lm.disk.safetensors import DTYPES, File, Tensor
from lm.letters import make_mesh, sharding, shardings
from lm.stores.hf import export
from lm.stores.hf.folder import INDEX, WEIGHTS
from lm.stores.hf.mapping import Mapping, row

B, T = 2, 12


# Flavours whose logits no other file compares.
ONLY_HERE = {"gpt2, untied, its own ff", "t5, tied without scaling"}
ONLY_HERE |= set(HEADS) - {"bert", "bert, as trained", "t5", "t5, gated"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_in_and_out_again(flavour, tmp_path):
  hf_model, folder = saved(flavour)
  model, params, tokenizer = lm.load(folder)
  assert tokenizer is None
  tokens_BT = tokens(B, T)
  expected_BTV = logits(hf_model, tokens_BT)
  assert np.std(expected_BTV) > 0.5
  if flavour in ONLY_HERE:
    inputs = {"source_BS": tokens_BT[:, ::-1]} if model.traits.source else {}
    actual_BTV, _ = jax.jit(model.apply)({"params": params}, tokens_BT, **inputs)
    np.testing.assert_allclose(actual_BTV, expected_BTV, atol=1e-4, rtol=1e-4)

  # With the folder's other files: the same bytes.
  export.keep(tmp_path / "kept", stores.open(folder).source)
  export.write(tmp_path / "same", model, params, None, kept=tmp_path / "kept")
  assert bytes_of(tmp_path / "same") == bytes_of(folder)

  # Without them: a config.json of ours, which transformers reads like its own.
  export.write(tmp_path / "ours", model, params, None)
  before, after = (File(p / WEIGHTS) for p in (folder, tmp_path / "ours"))
  for name in before.tensors:
    assert after.read(name).tobytes() == before.read(name).tobytes(), name
  restored = type(hf_model).from_pretrained(tmp_path / "ours")
  np.testing.assert_array_equal(logits(restored, tokens_BT), expected_BTV)


def test_shards_and_dtypes_come_back(tmp_path):
  """Covers bfloat16, several files, and a tied readout that is duplicated."""
  hf_model, _ = saved("gpt2")
  folder = tmp_path / "in"
  half = copy.deepcopy(hf_model).to(torch.bfloat16)
  half.save_pretrained(folder, max_shard_size="20KB")
  index = json.loads((folder / INDEX).read_text())
  assert len(set(index["weight_map"].values())) > 2
  last_shard = sorted(set(index["weight_map"].values()))[-1]
  values = File(folder / last_shard)
  table = stores.open(folder).source.read("transformer.wte.weight")
  tensors = values.tensors | {"lm_head.weight": Tensor("BF16", table.shape)}
  array_of = lambda name: table if name == "lm_head.weight" else values.read(name)
  write(folder / last_shard, tensors, array_of, metadata=values.metadata)
  index["weight_map"]["lm_head.weight"] = last_shard
  text = json.dumps(index, indent=2, sort_keys=True) + "\n"
  (folder / INDEX).write_text(text)

  model, params, _ = lm.load(folder)
  assert params["embed"]["table"].dtype == np.float32
  export.keep(tmp_path / "kept", stores.open(folder).source)
  export.write(tmp_path / "same", model, params, None, kept=tmp_path / "kept")
  actual, expected = bytes_of(tmp_path / "same"), bytes_of(folder)
  for name in actual:
    if name.endswith(".safetensors"):
      assert actual[name] == expected[name], name
  assert set(actual) == set(expected)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4"])
def test_weights_of_few_bits_come_back(dtype, tmp_path):
  folder, written = (
    shutil.copytree(saved("qwen3")[1], tmp_path / "in"),
    tmp_path / "same",
  )
  file = File(saved("qwen3")[1] / WEIGHTS)
  arrays = {name: file.read(name).astype(DTYPES[dtype][0]) for name in file.tensors}
  tensors = {name: Tensor(dtype, array.shape) for name, array in arrays.items()}
  write(folder / WEIGHTS, tensors, arrays.get, metadata=file.metadata)
  model, params, _ = lm.load(folder)
  table_VD = arrays["model.embed_tokens.weight"].astype(np.float32)
  np.testing.assert_array_equal(params["embed"]["table"][:VOCAB], table_VD)
  export.keep(tmp_path / "kept", stores.open(folder).source)
  export.write(written, model, params, None, kept=tmp_path / "kept")
  assert bytes_of(written) == bytes_of(folder)


def test_a_model_without_a_head_has_no_prefix(tmp_path):
  hf_model, folder = saved("gpt2")
  hf_model.transformer.save_pretrained(tmp_path)
  assert "wte.weight" in File(tmp_path / WEIGHTS).tensors
  actual, expected = lm.load(tmp_path)[1], lm.load(folder)[1]
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_of_tied_tensors_the_readout_may_be_the_one_that_was_kept(tmp_path):
  _, folder = saved("gpt2")
  shutil.copytree(folder, tmp_path / "in")
  file, table = File(folder / WEIGHTS), "transformer.wte.weight"
  names = {("lm_head.weight" if name == table else name): name for name in file.tensors}
  tensors = {name: file.tensors[old_name] for name, old_name in names.items()}
  array_of = lambda name: file.read(names[name])
  write(tmp_path / "in" / WEIGHTS, tensors, array_of, metadata=file.metadata)
  model, params, _ = lm.load(tmp_path / "in")
  jax.tree.map(np.testing.assert_array_equal, params, lm.load(folder)[1])
  export.keep(tmp_path / "kept", stores.open(tmp_path / "in").source)
  export.write(tmp_path / "same", model, params, None, kept=tmp_path / "kept")
  assert bytes_of(tmp_path / "same") == bytes_of(tmp_path / "in")


def test_bert_as_first_published(tmp_path):
  """Reads the first BERT: other norm names, a config that names one of two heads."""
  _, folder = saved("bert, as trained")
  config = json.loads((folder / "config.json").read_text())
  config["architectures"] = ["BertForMaskedLM"]
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "config.json").write_text(json.dumps(config))
  new = File(folder / WEIGHTS)
  old_suffixes = {
    "LayerNorm.weight": "LayerNorm.gamma",
    "LayerNorm.bias": "LayerNorm.beta",
  }
  names = {}
  for name in new.tensors:
    end = next((end for end in old_suffixes if name.endswith(end)), "")
    names[name.removesuffix(end) + old_suffixes.get(end, "")] = name
  tensors = {name: new.tensors[old_name] for name, old_name in names.items()}
  array_of = lambda name: new.read(names[name])
  write(tmp_path / "in" / WEIGHTS, tensors, array_of, metadata=new.metadata)

  model, params, _ = lm.load(tmp_path / "in")
  jax.tree.map(np.testing.assert_array_equal, params, lm.load(folder)[1])
  export.keep(tmp_path / "kept", stores.open(tmp_path / "in").source)
  export.write(tmp_path / "same", model, params, None, kept=tmp_path / "kept")
  assert bytes_of(tmp_path / "same") == bytes_of(tmp_path / "in")


def test_another_head_on_the_same_body(tmp_path):
  """Draws a new head, exports it, and compares the logits with transformers'."""
  _, folder = saved("bert, as trained")
  tokens_BT, params = tokens(B, T), lm.load(folder)[1]
  model, changed, _ = lm.load(folder, head="classes", classes=3)
  assert set(params) - set(changed) == {"head", "bias", "follows"}
  for part in set(params) & set(changed):
    jax.tree.map(np.testing.assert_array_equal, changed[part], params[part])
  export.write(tmp_path, model, changed, None)
  kind = transformers.BertForSequenceClassification
  hf_model = kind.from_pretrained(tmp_path).eval()
  actual_BC, _ = jax.jit(model.apply)({"params": changed}, tokens_BT)
  assert actual_BC.shape == (B, 3)
  np.testing.assert_allclose(
    actual_BC, logits(hf_model, tokens_BT), atol=1e-4, rtol=1e-4
  )
  assert lm.load(folder, dtype="bfloat16")[0].config.run.dtype == "bfloat16"
  with pytest.raises(
    ValueError,
    match=r"another model: blocks/layer/attention/k_norm/scale is absent in it",
  ):
    lm.load(folder, qk_norm="head")
  with pytest.raises(ValueError, match="has no field 'clases'; did you mean 'classes'"):
    lm.load(folder, clases=3)


def test_each_device_reads_its_own_part():
  """Loads onto a mesh: the same values, sharded."""
  _, folder = saved("llama, grouped")
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  whole, parts = lm.load(folder)[1], lm.load(folder, mesh=mesh)[1]
  jax.tree.map(np.testing.assert_array_equal, parts, whole)
  assert parts["blocks"]["layer"]["ff"]["up"].sharding == sharding(mesh, "LDF")


def test_a_model_of_ours_that_no_family_can_hold(tmp_path):
  fields = dict(
    width=16, heads=2, layers=1, context=8, activation="relu2", norm="layer"
  )
  model = models.build("decoder", vocab=VOCAB, **fields)
  with pytest.raises(ValueError, match=r"no family .* llama cannot say"):
    export.write(tmp_path, model, {}, None)


def test_a_constant_that_was_trained_is_not_lost(tmp_path):
  """Changes a bias that our model has and Llama lacks, which a folder cannot hold."""
  _, folder = saved("llama, attention biases, wide heads")
  model, params, _ = lm.load(folder)
  params["norm"]["bias"] += 1
  with pytest.raises(ValueError, match="norm/bias cannot be written"):
    export.write(tmp_path / "new", model, params, None)


def test_a_number_that_a_dtype_cannot_hold(tmp_path):
  model, params, _ = lm.load(saved("qwen3")[1])
  params["norm"]["scale"] += 1e5
  with pytest.raises(ValueError, match=r"model\.norm\.weight has values up to 1e\+05"):
    export.write(tmp_path, model, params, None, dtype="float16")


def test_a_table_has_a_row_for_every_parameter():
  with pytest.raises(AssertionError, match="no row for b"):
    Mapping([row("a", "A", None)], {"a": (), "b": ()})


def test_a_run_starts_from_a_folder(tmp_path):
  """Reads parameters for a run's own model (`init.path`), or fails in one line."""
  _, folder = saved("qwen2")
  fields = dict(width=32, layers=2, heads=4, kv_heads=2, ff=48, qkv_bias=True)
  build = lambda vocab: models.build("decoder", vocab=vocab, tied=False, **fields)
  store = stores.open(folder)
  model = build(store.fields["vocab"])
  shapes, letters = stores.abstract(model)
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  expected = trees.placed(shapes, shardings(mesh, letters, shapes))
  store.check(expected)
  actual = store.params(expected)
  jax.tree.map(np.testing.assert_array_equal, actual, lm.load(folder)[1])
  with pytest.raises(
    ValueError, match=r"blocks/layer/attention/k is .* in it, .* was wanted"
  ):
    model = models.build("decoder", vocab=VOCAB, tied=False, **fields | dict(width=64))
    store.params(stores.abstract(model)[0])
  with pytest.raises(ValueError, match="has no steps; leave out step=3"):
    lm.load(folder, step=3)


def test_tied_tensors_that_came_apart_are_refused(tmp_path):
  _, folder = saved("t5, tied without scaling")
  model, params, _ = lm.load(folder)
  params["head"]["table"] += 1
  export.keep(tmp_path / "kept", stores.open(folder).source)
  with pytest.raises(
    ValueError, match=r"shared\.weight was one tensor, tied, and is tw"
  ):
    export.write(tmp_path / "new", model, params, None, kept=tmp_path / "kept")
