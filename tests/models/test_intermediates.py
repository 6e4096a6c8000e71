"""Intermediates that a model records with mutable=["intermediates"]."""

import jax
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm.nn.attention import Attention
from lm.nn.attention.masks import Mask
from lm.nn.layers import FeedForward, Norm
from lm.nn.positions.rotary import rotary

B, T = 2, 6
RESIDUALS = ("attention_residual_BTD", "ff_residual_BTD")


def recorded(family, scan):
  """Returns (features, intermediates) of a family's model."""
  model = family.model(scan=scan)

  @jax.jit
  def run(params):
    options = dict(mutable=["intermediates"], method="features")
    return model.apply({"params": params}, tokens(B, T), **family.inputs(B), **options)

  features, variables = run(family.params())
  return features, variables.get("intermediates", {})


def residuals(c, params, tokens_BT):
  """Yields the residual stream of a decoder after each sublayer."""
  x_BTD = params["embed"]["table"][tokens_BT]
  angles = rotary(np.arange(T)[None], c.attention.sizes(c.width)[2], c.rope)
  options = dict(dtype="float32", scale=1.0, bias=c.bias)
  for l in range(c.layers):
    own = jax.tree.map(lambda leaf, l=l: leaf[l], params["blocks"]["layer"])

    def norm(name, x, own=own):
      module = Norm(kind=c.residual.norm, eps=c.residual.eps, bias=c.bias)
      return module.apply({"params": own[f"{name}_norm"]}, x)

    def attention(x, own=own):
      extra = dict(out_bias=c.bias, eps=c.residual.eps)
      module = Attention(heads=c.attention, **options, **extra)
      return module.apply({"params": own["attention"]}, x, Mask(), angles=angles)[0]

    def ff(x, own=own):
      module = FeedForward(size=c.F, activation=c.feed.activation, **options)
      return module.apply({"params": own["ff"]}, x)

    if c.residual.order == "after":
      x_BTD = x_BTD + norm("attention", attention(x_BTD))
      yield x_BTD
      x_BTD = x_BTD + norm("ff", ff(x_BTD))
    else:
      first_BTD = x_BTD
      x_BTD = x_BTD + attention(norm("attention", first_BTD))
      yield x_BTD
      ff_input_BTD = first_BTD if c.residual.order == "parallel" else x_BTD
      x_BTD = x_BTD + ff(norm("ff", ff_input_BTD))
    yield x_BTD


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("name", ["llama", "olmo2", "neox"])
def test_the_residual_stream_is_that_of_a_forward_by_hand(name, scan):
  family = FAMILIES[name]
  c, params = family.model().config, family.params()
  expected = [np.asarray(x) for x in residuals(c, params, tokens(B, T))]
  features, intermediates = recorded(family, scan)
  stacked = [intermediates["blocks"]["layer"][key][0] for key in RESIDUALS]
  for l in range(c.layers):
    for x_LBTD, x_BTD in zip(stacked, expected[2 * l : 2 * l + 2], strict=True):
      np.testing.assert_allclose(x_LBTD[l], x_BTD, rtol=2e-5, atol=2e-5)
  norm = Norm(kind=c.residual.norm, eps=c.residual.eps, bias=c.bias)
  expected_BTD = norm.apply({"params": params["norm"]}, expected[-1])
  np.testing.assert_allclose(features.x_BTD, expected_BTD, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_scanned_and_unrolled_models_show_the_same(name):
  family = FAMILIES[name]
  (scanned, expected), (unrolled, actual) = (
    recorded(family, scan) for scan in (True, False)
  )
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  assert bool(actual) == ("layers" in family.fields)
  for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert np.isfinite(np.linalg.norm(x))
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)
  # Recording changes no feature.
  plain = jax.jit(family.model().apply, static_argnames="method")
  x_BTD = plain(
    {"params": family.params()}, tokens(B, T), method="features", **family.inputs(B)
  ).x_BTD
  for features in (scanned, unrolled):
    np.testing.assert_allclose(features.x_BTD, x_BTD, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
  "name", [n for n, f in FAMILIES.items() if "heads" in f.fields]
)
def test_every_layer_records_every_sublayer(name):
  family = FAMILIES[name]
  L = family.fields["layers"]
  intermediates = recorded(family, scan=False)[1]
  intermediates = intermediates.get("generator", intermediates)["blocks"]["layer"]
  sublayers = {key: leaf[0] for key, leaf in intermediates.items() if "residual" in key}
  expected = {"mixer"} if name == "mamba2" else {"attention", "ff"}
  expected |= {"cross"} if family.traits.source else set()
  assert set(sublayers) == {f"{sublayer}_residual_BTD" for sublayer in expected}
  for x_LBTD in sublayers.values():
    assert x_LBTD.shape[:3] == (L, B, T)
