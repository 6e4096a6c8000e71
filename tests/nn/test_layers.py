"""Norms, activations, soft-cap, dropout and readout, compared with their formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.letters import unbox
from lm.nn import layers
from lm.nn.layers import ACTIVATIONS, Embedding, Norm, Readout


def test_norms_follow_their_formulas():
  x = np.random.default_rng(0).standard_normal((2, 3, 8), np.float32) * 3 + 1
  scale, bias = np.linspace(1, 2, 8), np.linspace(-1, 1, 8)
  params = {"params": {"scale": scale, "bias": bias}}
  layer = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  actual = Norm(kind="layer", eps=1e-5, bias=True).apply(params, x)
  np.testing.assert_allclose(actual, layer * scale + bias, rtol=1e-4, atol=1e-5)
  rms = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-5)
  actual = Norm(kind="rms", eps=1e-5).apply({"params": {"scale": scale}}, x)
  np.testing.assert_allclose(actual, rms * scale, rtol=1e-5)


def test_activations_follow_their_formulas():
  x = np.linspace(-3, 3, 7, dtype=np.float32)
  gelu = x * 0.5 * (1 + np.array([math.erf(v / 2**0.5) for v in x]))
  expected = {
    "swiglu": x / (1 + np.exp(-x)),
    "relu": np.maximum(x, 0),
    "relu2": np.maximum(x, 0) ** 2,
    "gelu": gelu,
  }
  for name, value in expected.items():
    np.testing.assert_allclose(ACTIVATIONS[name](x), value, atol=1e-5)
  for name in ("gelu_tanh", "geglu"):
    np.testing.assert_allclose(ACTIVATIONS[name](x), gelu, atol=1e-3)


def test_softcap_holds_logits_and_leaves_small_ones():
  x = jnp.array([-1e9, -0.01, 0.0, 0.01, 1e9])
  np.testing.assert_allclose(layers.softcap(x, 5.0), [-5, -0.01, 0, 0.01, 5], rtol=1e-4)
  assert layers.softcap(x, 0.0) is x


def test_dropout_keeps_the_mean():
  x = jnp.ones((1000,))
  y = layers.dropout(jax.random.key(0), x, 0.25)
  assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
  np.testing.assert_allclose(y.mean(), 1, atol=0.05)
  assert layers.dropout(None, x, 0.25) is x


def test_keys_of_layers_are_all_different_and_none_without_a_key():
  assert layers.layer_keys(None, 3) == (None, None)
  assert layers.split_key(None, 2) == (None, None)
  first, keys_L = layers.layer_keys(jax.random.key(0), 3)
  data = [str(jax.random.key_data(key)) for key in (first, *keys_L)]
  assert len(set(data)) == 4


class Tied(nn.Module):
  """Embedding with a tied readout, or a readout with its own table."""

  tied: bool

  def setup(self):
    self.embed = Embedding(size=5, width=3)
    tied_to = self.embed if self.tied else None
    self.head = Readout(vocab=5, dtype="float32", tied_to=tied_to, softcap=2.0)

  def __call__(self, ids_BT):
    return self.head(self.embed(ids_BT))


@pytest.mark.parametrize("tied", [True, False])
def test_a_readout_has_a_table_of_its_own_unless_it_is_tied(tied):
  model, ids_BT = Tied(tied), jnp.array([[0, 4]])
  params = unbox(model.init(jax.random.key(0), ids_BT)["params"])
  assert set(params) == ({"embed"} if tied else {"embed", "head"})
  table_VD = 50 * params["embed"]["table"]
  params = params | {"embed": {"table": table_VD}}
  logits_BTV = model.apply({"params": params}, ids_BT)
  head_DV = table_VD.T if tied else params["head"]["table"]
  expected_TV = 2 * np.tanh(np.asarray(table_VD)[ids_BT[0]] @ np.asarray(head_DV) / 2)
  np.testing.assert_allclose(logits_BTV[0, :, :5], expected_TV[:, :5], atol=1e-5)
  assert logits_BTV.shape == (1, 2, 128)
  assert (logits_BTV[..., 5:] == np.finfo(np.float32).min).all()


@pytest.mark.parametrize("vocab, rows", [(1, 128), (128, 128), (129, 256)])
def test_tables_of_the_vocabulary_are_padded(vocab, rows):
  assert layers.padded(vocab) == rows
