"""Attributions: those of torch on the same BERT, complete, and for every classifier."""

import functools

import hf
import jax
import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, VOCAB, tokens

from lm import models
from lm.letters import unbox
from lm.study import attribute

T, C = 9, 3
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's
IDS_T = tokens(1, T)[0]


@functools.cache
def pair():
  """Returns (transformers' BERT with classes, ours, its parameters)."""
  config = transformers.BertConfig(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=16,
    num_labels=C,
    attn_implementation="eager",
  )
  hf_model = hf.noisy(transformers.BertForSequenceClassification(config))
  return hf_model, *hf.copied(hf_model)


def peer(x_BTD, number):
  """Returns (logit_B, gradient_BTD) of transformers' BERT for vectors of words."""
  hf_model = pair()[0]
  x_BTD = torch.tensor(np.asarray(x_BTD, np.float32), requires_grad=True)
  logit_B = hf_model(inputs_embeds=x_BTD).logits[:, number]
  logit_B.sum().backward()
  return logit_B.detach().numpy(), x_BTD.grad.numpy()


def words(ids_T):
  table_VD = pair()[0].bert.embeddings.word_embeddings.weight.detach().numpy()
  return table_VD[ids_T]


@pytest.mark.parametrize("number", range(C))
def test_gradient_x_input_is_that_of_torch(number):
  _, model, params = pair()
  x_1TD = words(IDS_T)[None]
  _, gradient_1TD = peer(x_1TD, number)
  share_T = attribute.gradient_x_input(model, params, IDS_T, number)
  expected_T = (gradient_1TD * x_1TD).sum(-1)[0]
  assert np.abs(expected_T).max() > 0.05
  np.testing.assert_allclose(share_T, expected_T, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("padding", [0, 4])
def test_integrated_gradients_are_a_sum_over_the_path(padding):
  """Computed by torch with 1,000 midpoints, from a baseline of zeros."""
  _, model, params = pair()
  x_TD, count = words(IDS_T), 1_000
  place_B11 = (np.arange(count)[:, None, None] + 0.5) / count
  _, gradient_BTD = peer(place_B11 * x_TD[None], 1)
  expected_T = (gradient_BTD.mean(0) * x_TD).sum(-1)
  ids_T = np.append(IDS_T, np.full(padding, -1, np.int32))
  result = attribute.integrated_gradients(
    model, params, ids_T, 1, baseline_D=np.zeros(32), steps=128
  )
  np.testing.assert_allclose(result.share_T[:T], expected_T, atol=2e-4)
  assert not result.share_T[T:].any()
  assert result.output == pytest.approx(float(peer(x_TD[None], 1)[0][0]), abs=1e-5)
  assert result.baseline == pytest.approx(
    float(peer(0 * x_TD[None], 1)[0][0]), abs=1e-5
  )
  assert abs(result.gap) < 1e-3 < abs(result.output - result.baseline)


FIELDS = {
  "encoder": dict(head="classes", pooler=True, positions="rotary"),
  "encoder, norms in front": dict(head="classes", pooler=True, post_norm=False),
  "decoder": dict(head="classes", preset="llama-tiny"),
  "decoder, learned": dict(head="classes", preset="gpt2-tiny"),
  "rnn": dict(head="classes"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_integrated_gradients_add_up_for_every_classifier(name):
  fields = dict(width=32, layers=2, classes=C, scan="," in name) | FIELDS[name]
  fields |= dict(heads=4) if not name.startswith("rnn") else {}
  if name.startswith("decoder"):
    fields |= dict(ff=48) | (dict(kv_heads=2) if "llama" in fields["preset"] else {})
  model = models.build(name.partition(",")[0], vocab=VOCAB, **fields)
  params = unbox(model.init(jax.random.key(0), tokens(1, T))["params"])
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noise = [
    0.2 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)
  ]
  params = jax.tree.map(np.add, params, tree.unflatten(noise))
  params["embed"]["table"] *= 5  # positions do not drown it
  logits_BC, _ = model.apply({"params": params}, IDS_T[None])
  result = attribute.integrated_gradients(model, params, IDS_T, 2)
  assert result.output == pytest.approx(float(logits_BC[0, 2]), abs=1e-4)
  change = result.output - result.baseline
  assert abs(change) > 0.02
  assert abs(result.gap) <= attribute.CLOSE * abs(change)
  assert result.share_T.sum() == pytest.approx(change, abs=0.02 * abs(change))
  # A text alone and with padding behind it.
  padded_T = np.append(IDS_T, np.full(3, -1, np.int32))
  share_T = attribute.gradient_x_input(model, params, padded_T, 2)
  expected_T = attribute.gradient_x_input(model, params, IDS_T, 2)
  np.testing.assert_allclose(share_T[:T], expected_T, atol=1e-5)
  assert not share_T[T:].any()


def test_attention_is_that_of_transformers():
  hf_model, model, params = pair()
  with torch.no_grad():
    inputs = torch.tensor(IDS_T[None].astype(np.int64))
    expected = hf_model(inputs, output_attentions=True).attentions
  probs_LNTS = attribute.attention(model, params, IDS_T)
  assert probs_LNTS.shape == (2, 4, T, T)
  for probs_NTS, layer in zip(probs_LNTS, expected, strict=True):
    np.testing.assert_allclose(probs_NTS, layer[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma", "bert", "lstm", "mamba2"])
def test_attention_of_other_families(name):
  family = FAMILIES[name]
  probs_LNTS = attribute.attention(family.model(), family.params(), IDS_T)
  if name in ("lstm", "mamba2"):
    assert probs_LNTS is None
  else:
    np.testing.assert_allclose(probs_LNTS.sum(-1), 1, atol=1e-5)
    assert np.triu(probs_LNTS[0, 0], 1).any() == (name == "bert")


def test_the_loss_of_each_token_is_that_of_transformers():
  config = transformers.GPT2Config(
    vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=16
  )
  hf_model = hf.noisy(transformers.GPT2LMHeadModel(config))
  model, params = hf.copied(hf_model)
  logits_TV = torch.tensor(hf.logits(hf_model, IDS_T[None])[0])
  expected_T = torch.nn.functional.cross_entropy(
    logits_TV[:-1], torch.tensor(IDS_T[1:].astype(np.int64)), reduction="none"
  )
  nats_T = attribute.token_nats(model, params, IDS_T)
  np.testing.assert_allclose(nats_T, expected_T.numpy(), atol=1e-4)
