"""Decoders: logits equal transformers', on tiny random models of every flavour."""

import hf
import jax
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, tokens

B, T = 2, 12
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's

GPT2 = dict(n_embd=32, n_layer=2, n_head=4, n_positions=16)
LLAMA = dict(
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=16,
)
NEOX = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
NEOX |= dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5))
SLOW = dict(rope_type="default", rope_theta=50.0)
FAR = dict(rope_type="linear", rope_theta=500.0, factor=2.0)
GEMMA = LLAMA | dict(
  num_hidden_layers=5,
  head_dim=8,
  query_pre_attn_scalar=11,
  sliding_window=3,
  final_logit_softcapping=3.0,
)
GEMMA |= dict(layer_types=["sliding_attention", "full_attention"] * 2)
GEMMA["layer_types"] += ["sliding_attention"]


def rope(kind, **values):
  """Returns the config of a Llama with scaled rotary positions."""
  rope = dict(rope_type=kind, rope_theta=500.0, factor=2.0) | values
  return LLAMA | dict(rope_parameters=rope, head_dim=16)


# {flavour: (config class, its values, fields of ours that it does not hold)}.
FLAVOURS = {
  "gpt2": ("GPT2", GPT2, {}),
  "gpt2, exact gelu, untied": (
    "GPT2",
    GPT2 | dict(activation_function="gelu", tie_word_embeddings=False),
    {},
  ),
  "llama, grouped, untied": ("Llama", LLAMA | dict(rope_theta=500.0), {}),
  "llama, multi-head, tied": (
    "Llama",
    LLAMA | dict(num_key_value_heads=4, tie_word_embeddings=True, rms_norm_eps=1e-2),
    {},
  ),
  "llama, multi-query": ("Llama", LLAMA | dict(num_key_value_heads=1), {}),
  "llama, biases": ("Llama", LLAMA | dict(attention_bias=True, mlp_bias=True), {}),
  "llama, wide heads": ("Llama", LLAMA | dict(head_dim=16), {}),
  "llama, linear": ("Llama", rope("linear"), {}),
  # transformers takes the factor of the row at hand: 2 * 12 / 8 - (2 - 1).
  "llama, ntk": (
    "Llama",
    rope("dynamic") | dict(max_position_embeddings=8),
    dict(scaling="ntk", factor=2.0, context=16),
  ),
  "llama, yarn": (
    "Llama",
    rope("yarn", beta_fast=8, original_max_position_embeddings=64),
    {},
  ),
  "llama, llama3": (
    "Llama",
    rope(
      "llama3",
      low_freq_factor=0.25,
      high_freq_factor=2.0,
      original_max_position_embeddings=8,
    ),
    {},
  ),
  "mistral, window": ("Mistral", LLAMA | dict(sliding_window=5), {}),
  "qwen2, biases of q, k and v": ("Qwen2", LLAMA, {}),
  "qwen3, norms of q and k": ("Qwen3", LLAMA | dict(head_dim=16), {}),
  "neox, parallel, half a head turned": ("GPTNeoX", NEOX, {}),
  "neox, one after the other": (
    "GPTNeoX",
    NEOX | dict(use_parallel_residual=False),
    {},
  ),
  "olmo2": ("Olmo2", LLAMA, {}),
  "mixtral": ("Mixtral", LLAMA | dict(num_local_experts=5, num_experts_per_tok=3), {}),
  "gemma2": ("Gemma2", GEMMA | dict(attn_logit_softcapping=2.0), {}),
  "gemma3": (
    "Gemma3Text",
    GEMMA | dict(rope_parameters=dict(sliding_attention=SLOW, full_attention=FAR)),
    {},
  ),
}
pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture(scope="module")
def hf_model():
  """Returns name -> random transformers model."""
  models = {}

  def build(flavour):
    if flavour not in models:
      kind, values, _ = FLAVOURS[flavour]
      ids = dict(vocab_size=VOCAB, bos_token_id=0, eos_token_id=0)
      config = getattr(transformers, f"{kind}Config")(**values, **ids)
      torch.manual_seed(0)
      model = transformers.AutoModelForCausalLM.from_config(config)
      with torch.no_grad():
        for weight in model.parameters():
          weight += 0.2 * torch.randn_like(weight)
      models[flavour] = model.eval()
    return models[flavour]

  return build


def test_logits_are_those_of_transformers(flavour, hf_model):
  model, params = hf.copied(hf_model(flavour), **FLAVOURS[flavour][2])
  tokens_BT = tokens(B, T)
  actual_BTV, _ = jax.jit(model.apply)({"params": params}, tokens_BT)
  expected_BTV = hf.logits(hf_model(flavour), tokens_BT)
  assert actual_BTV.shape == expected_BTV.shape == (B, T, VOCAB)
  assert np.std(expected_BTV) > 0.5  # so that equality is a strong claim
  np.testing.assert_allclose(actual_BTV, expected_BTV, atol=1e-4, rtol=1e-4)


def test_cached_decoding_gives_the_logits_of_transformers(flavour, hf_model):
  model, params = hf.copied(hf_model(flavour), **FLAVOURS[flavour][2])
  tokens_BT = tokens(B, T)
  expected_BTV = hf.logits(hf_model(flavour), tokens_BT)
  apply = jax.jit(
    lambda p, tokens_BT, c: model.apply({"params": p}, tokens_BT, cache=c)
  )
  actual_BTV, cache = apply(params, tokens_BT[:, :7], model.init_cache(B, T))
  np.testing.assert_allclose(actual_BTV, expected_BTV[:, :7], atol=1e-4, rtol=1e-4)
  for t in range(7, T):
    actual_B1V, cache = apply(params, tokens_BT[:, t : t + 1], cache)
    np.testing.assert_allclose(
      actual_B1V[:, 0], expected_BTV[:, t], atol=1e-4, rtol=1e-4
    )
