"""Mamba-2: logits equal transformers', chunks equal the plain recurrence."""

import hf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, VOCAB, tokens

from lm import models
from lm.letters import abstract
from lm.nn import ssd

B, T, N, H, G, M = 2, 11, 4, 3, 2, 5
torch.set_num_threads(1)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def recurrence(x_BTNH, log_decay_BTN, b_BTGM, c_BTGM, state_BNHM, runs_BT):
  """Returns (y_BTNH, state_BNHM) of the recurrence, computed token by token."""
  outputs = []
  for t in range(x_BTNH.shape[1]):
    state_BNHM = state_BNHM * np.exp(log_decay_BTN[:, t])[..., None, None]
    if t:
      goes_on_B = runs_BT[:, t] == runs_BT[:, t - 1]
      state_BNHM = state_BNHM * goes_on_B[:, None, None, None]
    b_BNM, c_BNM = (np.repeat(x[:, t], N // G, axis=1) for x in (b_BTGM, c_BTGM))
    state_BNHM = state_BNHM + np.einsum("BNH,BNM->BNHM", x_BTNH[:, t], b_BNM)
    outputs.append(np.einsum("BNHM,BNM->BNH", state_BNHM, c_BNM))
  return np.stack(outputs, 1), state_BNHM


@pytest.mark.parametrize("cut", [False, True])
def test_chunks_of_any_size_are_the_recurrence(cut):
  arrays = (
    noise(B, T, N, H),
    -np.abs(noise(B, T, N, seed=1)),
    noise(B, T, G, M, seed=2),
    noise(B, T, G, M, seed=3),
    noise(B, N, H, M, seed=4),
  )
  new_BT = np.random.default_rng(5).random((B, T)) < (0.3 if cut else 0)
  runs_BT = np.cumsum(new_BT, axis=1).astype(np.int32)
  expected = recurrence(*arrays, runs_BT)
  for chunk in (1, 3, 4, 64):
    actual = jax.jit(
      lambda *arrays, chunk=chunk: ssd.chunked(
        *arrays, runs_BT=runs_BT if cut else None, chunk=chunk, dtype="float32"
      )
    )(*arrays)
    for x, y in zip(actual, expected, strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


def test_logits_are_those_of_transformers():
  """Compares with the form without kernels: 2.75 chunks, two groups of heads."""
  family = FAMILIES["mamba2"]
  model = family.model(tied=False)
  c, s = model.config, model.config.space
  torch.manual_seed(0)
  hf_model = transformers.Mamba2ForCausalLM(
    transformers.Mamba2Config(
      vocab_size=VOCAB,
      hidden_size=c.width,
      num_hidden_layers=c.layers,
      num_heads=s.heads,
      head_dim=s.head_size(c.width),
      n_groups=s.groups,
      state_size=s.state,
      conv_kernel=s.taps,
      chunk_size=s.chunk,
    )
  ).eval()
  restored, params = hf.copied(hf.noisy(hf_model))
  assert restored == model
  tokens_BT = tokens(B, T)
  actual_BTV, _ = jax.jit(model.apply)({"params": params}, tokens_BT)
  with torch.no_grad():
    expected_BTV = hf_model(torch.from_numpy(tokens_BT.astype(np.int64))).logits.numpy()
  assert np.std(expected_BTV) > 0.5
  np.testing.assert_allclose(actual_BTV, expected_BTV, rtol=1e-4, atol=1e-4)


def test_the_memory_of_decoding_is_constant():
  model = FAMILIES["mamba2"].model()
  size = lambda n: sum(x.nbytes for x in jax.tree.leaves(model.init_cache(B, n)))
  space, past = 4 * 16 * 6, 3 * (4 * 16 + 2 * 2 * 6)
  assert size(1) == size(1_000_000) == 4 * 2 * B * (space + past)


def test_presets_have_the_sizes_of_the_released_models():
  expected = {"130m": 129, "370m": 368, "780m": 780, "1.3b": 1344, "2.7b": 2703}
  for name, millions in expected.items():
    model = models.build("mamba2", preset=f"mamba2-{name}", vocab=50_288)
    shapes, _ = abstract(model, jnp.zeros((1, 2), jnp.int32))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count / 1e6 == pytest.approx(millions, rel=0.005)


def test_mistakes_are_one_line():
  with pytest.raises(ValueError, match=r"heads=5 does not divide expand \* width=64"):
    models.build("mamba2", vocab=9, width=32, heads=5)
  with pytest.raises(ValueError, match="groups=3 does not divide heads=4"):
    models.build("mamba2", vocab=9, width=32, heads=4, groups=3)
  with pytest.raises(ValueError, match="chunk=0; wanted 1 or more"):
    models.build("mamba2", vocab=9, chunk=0)
