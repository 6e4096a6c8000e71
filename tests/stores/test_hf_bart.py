"""The BART kind: numbers equal those of transformers, on tiny models with padding."""

import json

import hf
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, tokens
from hf_models import saved, write

import lm
from lm import stores
from lm.disk.safetensors import File, Tensor
from lm.nn.positions.sinusoidal import sinusoids, sinusoids_as_printed
from lm.stores.hf import export
from lm.stores.hf.folder import WEIGHTS

B, T, S, PAD = 2, 11, 9, 1
SIZES = dict(
  vocab_size=VOCAB,
  d_model=36,
  encoder_layers=2,
  decoder_layers=3,
  encoder_attention_heads=4,
  decoder_attention_heads=4,
  encoder_ffn_dim=44,
  decoder_ffn_dim=44,
  max_position_embeddings=16,
  pad_token_id=PAD,
)
# {flavour: (config class, model class, values)}
FLAVOURS = {
  "bart": ("Bart", "BartForConditionalGeneration", {}),
  "bart, scaled": ("Bart", "BartForConditionalGeneration", dict(scale_embedding=True)),
  "mbart": ("MBart", "MBartForConditionalGeneration", dict(scale_embedding=True)),
  "marian": (
    "Marian",
    "MarianMTModel",
    dict(scale_embedding=True, activation_function="swish", decoder_start_token_id=PAD),
  ),
  "marian, odd": (
    "Marian",
    "MarianMTModel",
    dict(d_model=35, encoder_attention_heads=5, decoder_attention_heads=5)
    | dict(decoder_start_token_id=PAD),
  ),
  "pegasus": (
    "Pegasus",
    "PegasusForConditionalGeneration",
    dict(scale_embedding=True, activation_function="relu"),
  ),
  "m2m100": ("M2M100", "M2M100ForConditionalGeneration", {}),
}
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's


def hf_model_of(flavour):
  kind, name, values = FLAVOURS[flavour]
  config = getattr(transformers, f"{kind}Config")(**SIZES | values)
  torch.manual_seed(0)
  hf_model = hf.noisy(getattr(transformers, name)(config))
  if hasattr(hf_model, "final_logits_bias"):
    hf_model.final_logits_bias += torch.randn(VOCAB)
  return hf_model


def without_pads(tokens_BT):
  """The tokens with others in place of the padding's id, which M2M-100 would skip."""
  return np.where(tokens_BT == PAD, VOCAB - 1, tokens_BT)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_logits_are_those_of_transformers_at_once_and_one_by_one(flavour):
  tokens_BT, source_BS = (
    without_pads(tokens(B, size, seed=n)) for n, size in enumerate((T, S))
  )
  segments_BS = (np.arange(S)[None] < np.array([[S], [5]])).astype(np.int32)
  arrays = (tokens_BT, np.where(segments_BS, source_BS, PAD), segments_BS)
  hf.compare_with_source(hf_model_of(flavour), *arrays, limit=5e-5)


@pytest.mark.parametrize("width", [36, 35])
def test_sinusoids_are_those_of_transformers(width):
  """Compares the speeds as printed, and those of the first code (even widths)."""
  module = transformers.models.marian.modeling_marian
  table = module.MarianSinusoidalPositionalEmbedding(512, width)
  actual_TD = sinusoids_as_printed(np.arange(512)[None], width)[0]
  np.testing.assert_allclose(actual_TD, table.create_weight().numpy(), atol=5e-5)
  if width % 2 == 0:
    module = transformers.models.m2m_100.modeling_m2m_100
    table = module.M2M100SinusoidalPositionalEmbedding.get_embedding(512, width)
    actual_TD = sinusoids(np.arange(512)[None], width)[0]
    np.testing.assert_allclose(actual_TD, table.numpy(), atol=5e-5)


@pytest.mark.parametrize("flavour, values, message", [
  ("marian", dict(share_encoder_decoder_embeddings=False), "share_encoder_decoder_e"),
  ("bart", dict(tie_word_embeddings=False), "tie_word_embeddings=False in config.json"),
  ("mbart", dict(encoder_attention_heads=2), "decoder_attention_heads=4 and encoder_a"),
  ("m2m100", dict(pad_token_id=None), "pad_token_id=None in config.json; wanted an id"),
])  # fmt: skip
def test_what_is_not_built_is_refused(flavour, values, message, tmp_path):
  _, folder = saved(flavour)
  config = json.loads((folder / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps(config | values))
  (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
  with pytest.raises(ValueError, match=message):
    stores.open(tmp_path)


def rewritten(folder, flavour, changes: dict):
  """Writes the folder of a flavour with more tensors, or others, {name: array}."""
  _, saved_folder = saved(flavour)
  file = File(saved_folder / WEIGHTS)
  config = (saved_folder / "config.json").read_bytes()
  folder.mkdir()
  (folder / "config.json").write_bytes(config)
  tensors = file.tensors | {n: Tensor("F32", x.shape) for n, x in changes.items()}
  array_of = lambda name: changes[name] if name in changes else file.read(name)
  write(folder / WEIGHTS, tensors, array_of, metadata=file.metadata)
  return folder


def test_copies_of_the_table_come_back_and_have_to_be_copies(tmp_path):
  table = File(saved("marian")[1] / WEIGHTS).read("model.shared.weight")
  names = ("lm_head.weight", "model.decoder.embed_tokens.weight")
  changes = dict.fromkeys(names, table)
  folder = rewritten(tmp_path / "in", "marian", changes)
  model, params, _ = lm.load(folder)
  export.keep(tmp_path / "kept", stores.open(folder).source)
  export.write(tmp_path / "out", model, params, None, kept=tmp_path / "kept")
  assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
  other = rewritten(tmp_path / "other", "marian", changes | {names[1]: table + 1})
  with pytest.raises(ValueError, match=f"{names[1]} differs from model.shared.weight"):
    stores.open(other)


def test_sinusoids_in_a_file_come_back_and_have_to_be_sinusoids(tmp_path):
  """Old files of Marian hold them, those of Pegasus always do."""
  name = "model.encoder.embed_positions.weight"
  table_TD = File(saved("pegasus")[1] / WEIGHTS).read(name)
  both = {name.replace("encoder", part): table_TD for part in ("encoder", "decoder")}
  folder = rewritten(tmp_path / "in", "marian", both)
  model, params, _ = lm.load(folder)
  export.keep(tmp_path / "kept", stores.open(folder).source)
  export.write(tmp_path / "out", model, params, None, kept=tmp_path / "kept")
  assert (tmp_path / "out" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
  other = rewritten(tmp_path / "other", "pegasus", {name: table_TD[::-1].copy()})
  with pytest.raises(ValueError, match=f"{name} has values of its own"):
    lm.load(other)
