"""Folders of 2019: no model_type in config.json, and tied tensors under either name."""

import json
import shutil

import jax
import numpy as np
import pytest
from hf_models import FLAVOURS, bytes_of, saved, write

import lm
from lm import stores
from lm.disk.safetensors import File
from lm.stores.hf.folder import WEIGHTS


def edited(flavour, target, leave_out=(), renamed=None, **values):
  """Copies a folder without some keys of config.json and with other tensor names."""
  _, folder = saved(flavour)
  shutil.copytree(folder, target)
  config = json.loads((target / "config.json").read_text())
  config = {key: config[key] for key in config if key not in leave_out} | values
  (target / "config.json").write_text(json.dumps(config))
  if renamed:
    file = File(folder / WEIGHTS)
    old_of = {renamed.get(name, name): name for name in file.tensors}
    tensors = {new: file.tensors[old] for new, old in old_of.items()}
    write(target / WEIGHTS, tensors, lambda new: file.read(old_of[new]))
  return target


def assert_same(path, flavour):
  """Fails unless a path has the model and the parameters of a flavour."""
  model, params, _ = lm.load(path)
  expected, expected_params, _ = lm.load(saved(flavour)[1])
  assert model == expected
  jax.tree.map(np.testing.assert_array_equal, params, expected_params)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_class_says_the_type(flavour, tmp_path):
  folder = edited(flavour, tmp_path / "a", ["model_type"])
  assert stores.open(folder).model == stores.open(saved(flavour)[1]).model


# Tensors that may be BERT's, with one type of tokens; Llama's, but for the window;
# Pegasus's, without the sinusoids.
AMBIGUOUS = ("xlm-r, bare", "mistral, window", "m2m100")


@pytest.mark.parametrize("flavour", sorted(set(FLAVOURS) - set(AMBIGUOUS)))
def test_the_tensors_say_the_type(flavour, tmp_path):
  folder = edited(flavour, tmp_path / "a", ["model_type", "architectures"])
  expected = stores.open(saved(flavour)[1])
  store = stores.open(folder)
  assert store.family.FAMILY == expected.family.FAMILY
  assert store.mapping.tensors == expected.mapping.tensors


def test_a_family_that_the_user_names(tmp_path):
  bare = ["model_type", "architectures"]
  folder = edited("bert, as trained", tmp_path / "a", bare)
  assert stores.open(folder, family="bert").model.config.layers == 2
  folder = edited("xlm-r, bare", tmp_path / "b", bare)
  with pytest.raises(
    ValueError, match=r"no model_type, .* fit .*bert.*--family: bart, bert"
  ):
    stores.open(folder)
  folder = edited("mistral, window", tmp_path / "c", bare)
  with pytest.raises(ValueError, match="the tensors fit llama, mistral; choose one"):
    stores.open(folder)
  folder = tmp_path / "b"
  for family in ("roberta", "xlm-roberta"):
    assert stores.open(folder, family=family).model == (
      stores.open(saved("xlm-r, bare")[1]).model
    )


@pytest.mark.parametrize(
  "values, message",
  [
    (dict(architectures=["RobertaPreLayerNormForMaskedLM"]), "RobertaPreLayerNorm"),
    (dict(architectures=["Qwen2MoeForCausalLM"]), "Qwen2Moe.* is of no family"),
    (dict(architectures=[], hidden_size=33), "fit no family .* one with --family: "),
  ],
)
def test_what_nobody_knows_is_one_line(values, message, tmp_path):
  folder = edited("bert", tmp_path / "a", ["model_type"], **values)
  with pytest.raises(ValueError, match=message) as error:
    lm.load(folder)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("leave_out", [["model_type"], ["model_type", "architectures"]])
def test_in_and_out_again(leave_out, tmp_path):
  for flavour in ("bert, as trained", "gpt2"):
    folder = edited(flavour, tmp_path / flavour, leave_out)
    stores.write(tmp_path / "run", stores.open(folder))
    stores.write(tmp_path / "out", stores.open(tmp_path / "run"))
    assert bytes_of(tmp_path / "out") == bytes_of(folder)
    assert_same(tmp_path / "run", flavour)
    for made in ("run", "out"):
      shutil.rmtree(tmp_path / made)


KEPT = {
  "gpt2": {"transformer.wte.weight": "lm_head.weight"},
  "llama, tied, biases": {"model.embed_tokens.weight": "lm_head.weight"},
  "gemma2": {"model.embed_tokens.weight": "lm_head.weight"},
  "gemma3": {"model.embed_tokens.weight": "lm_head.weight"},
  "bert, as trained": {
    "bert.embeddings.word_embeddings.weight": "cls.predictions.decoder.weight",
    "cls.predictions.bias": "cls.predictions.decoder.bias",
  },
  "roberta": {
    "roberta.embeddings.word_embeddings.weight": "lm_head.decoder.weight",
    "lm_head.bias": "lm_head.decoder.bias",
  },
  "distilbert": {
    "distilbert.embeddings.word_embeddings.weight": "vocab_projector.weight"
  },
  "bart": {"model.shared.weight": "model.encoder.embed_tokens.weight"},
  "marian": {"model.shared.weight": "lm_head.weight"},
  "t5": {"shared.weight": "encoder.embed_tokens.weight"},
  "t5, gated": {"shared.weight": "decoder.embed_tokens.weight"},
}


@pytest.mark.parametrize("flavour", KEPT)
def test_a_tied_tensor_under_its_other_name(flavour, tmp_path):
  """Reads it, and writes the same bytes again."""
  folder = edited(flavour, tmp_path / "a", renamed=KEPT[flavour])
  assert_same(folder, flavour)
  stores.write(tmp_path / "run", stores.open(folder))
  stores.write(tmp_path / "out", stores.open(tmp_path / "run"))
  assert bytes_of(tmp_path / "out") == bytes_of(folder)


def test_a_readout_of_its_own_is_not_the_embedding(tmp_path):
  """Refuses a file without the embedding when config.json says that they differ."""
  for flavour, name in (("llama, grouped", "model.embed_tokens.weight"),):
    folder = edited(flavour, tmp_path / "a", renamed={name: "another"})
    with pytest.raises(ValueError, match=f"no tensor {name}"):
      lm.load(folder)
