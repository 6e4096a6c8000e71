"""Decoders that classify: their logits and files are those of `transformers`."""

import jax
import numpy as np
import pytest
import torch
import transformers

import lm
from lm import stores

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=99)
SMALL |= dict(num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2)
GPT2 = dict(n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=64)
LABELS = {0: "cold", 1: "none", 2: "warm"}
CONFIGS = {
  "GPT2": transformers.GPT2Config(**GPT2, initializer_range=0.2),
  "Llama": transformers.LlamaConfig(**SMALL, num_key_value_heads=2),
  "Qwen2": transformers.Qwen2Config(**SMALL, num_key_value_heads=2),
  "GPTNeoX": transformers.GPTNeoXConfig(**SMALL),
  "Olmo2": transformers.Olmo2Config(**SMALL, num_key_value_heads=2),
  "Mixtral": transformers.MixtralConfig(
    **SMALL, num_key_value_heads=2, num_local_experts=4
  ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_classes_by_the_last_token(name, tmp_path):
  torch.manual_seed(0)
  config = CONFIGS[name]
  config.id2label, config.label2id = LABELS, {text: i for i, text in LABELS.items()}
  config.pad_token_id = 0
  peer = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
  peer.save_pretrained(tmp_path / "there")
  model, params, _ = lm.load(tmp_path / "there")
  assert model.output == "classes"
  assert stores.open(tmp_path / "there").labels == tuple(LABELS.values())
  ids = np.arange(21).reshape(3, 7) * 4 + 5
  logits_BC, _ = jax.jit(lambda p: model.apply({"params": p}, ids))(params)
  with torch.no_grad():
    expected = peer(torch.tensor(ids)).logits.numpy()
  np.testing.assert_allclose(logits_BC, expected, atol=1e-4, rtol=1e-4)

  stores.write(tmp_path / "run", stores.open(tmp_path / "there"))
  stores.write(tmp_path / "back", stores.open(tmp_path / "run"))
  for file in ("model.safetensors", "config.json"):
    there, back = ((tmp_path / f / file).read_bytes() for f in ("there", "back"))
    assert there == back
  lm.save(tmp_path / "new", model, params, None)
  stores.write(tmp_path / "written", stores.open(tmp_path / "new"))
  cls = transformers.AutoModelForSequenceClassification
  again = cls.from_pretrained(tmp_path / "written", pad_token_id=0).eval()
  with torch.no_grad():
    np.testing.assert_allclose(again(torch.tensor(ids)).logits, expected, atol=1e-5)
