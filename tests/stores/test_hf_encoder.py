"""Encoder: numbers equal those of transformers' BERT, on tiny random models."""

import functools

import hf
import jax
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, tokens

B, T = 2, 12
SMALL = dict(
  vocab_size=VOCAB,
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  max_position_embeddings=16,
)
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's


close = functools.partial(hf.close, limit=1e-4, spread=0.1)


def all_outputs(model):
  """Jits a function to (logits_BTV, x_BTD, pooled_BD, next-sentence logits)."""

  def run(params, tokens_BT, **inputs):
    variables = {"params": params}
    x_BTD, *_ = model.apply(variables, tokens_BT, method="features", **inputs)
    pooled_BD = model.apply(variables, x_BTD, method="pool")
    follows_BC = model.apply(variables, x_BTD, method="next_sentence")
    logits_BTV, _ = model.apply(variables, tokens_BT, **inputs)
    return logits_BTV, x_BTD, pooled_BD, follows_BC

  return jax.jit(run)


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_all_outputs_are_those_of_transformers_with_types_and_padding(act):
  config = transformers.BertConfig(**SMALL, hidden_act=act)
  hf_model = hf.noisy(transformers.BertForPreTraining(config))
  model, params = hf.copied(hf_model)
  tokens_BT, real_BT = tokens(B, T), np.arange(T)[None] < np.array([[T], [7]])
  types_BT = np.broadcast_to(np.arange(T) >= 5, (B, T)).astype(np.int32)
  with torch.no_grad():
    hf_inputs = dict(
      input_ids=torch.from_numpy(tokens_BT.astype(np.int64)),
      token_type_ids=torch.from_numpy(types_BT.astype(np.int64)),
      attention_mask=torch.from_numpy(real_BT.astype(np.int64)),
    )
    body, outputs = hf_model.bert(**hf_inputs), hf_model(**hf_inputs)
  positions_BT = np.where(real_BT, np.arange(T)[None], -1).astype(np.int32)
  logits_BTV, x_BTD, pooled_BD, follows_BC = all_outputs(model)(
    params, tokens_BT, types_BT=types_BT, positions_BT=positions_BT
  )
  close(logits_BTV[real_BT], outputs.prediction_logits.numpy()[real_BT])
  close(x_BTD[real_BT], body.last_hidden_state.numpy()[real_BT])
  close(pooled_BD, body.pooler_output.numpy())
  close(follows_BC, outputs.seq_relationship_logits.numpy())


def test_masked_language_model_without_a_pooler():
  hf_model = hf.noisy(transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)))
  model, params = hf.copied(hf_model)
  assert "pooler" not in params
  with torch.no_grad():
    expected = hf_model(torch.from_numpy(tokens(B, T).astype(np.int64))).logits.numpy()
  close(jax.jit(model.apply)({"params": params}, tokens(B, T))[0], expected)
