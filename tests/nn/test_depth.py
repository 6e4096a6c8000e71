"""Depth: alternating kinds of layers, and collections beside the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.nn.depth import LAYER, Run, Stack, split

D = 3
DEPTHS = [(1, 1), (4, 1), (4, 2), (5, 2), (2, 3)]  # (L, number of kinds of layers)


class Block(nn.Module, kw_only=True):
  """Layer x += factor * scale * (x w + own + row), which counts its additions."""

  config: Any
  factor: float = 1.0

  @nn.compact
  def __call__(self, x_BD, inputs, rows):
    w_DD = self.param("w", nn.initializers.normal(0.3), (D, D))
    scale = self.variable("scales", "scale", jnp.ones, ())
    total = self.variable("totals", "total", jnp.zeros, ())
    y_BD = x_BD @ w_DD + inputs["own"][None] + rows["row_BD"]
    y_BD = self.factor * scale.value * y_BD
    if self.is_mutable_collection("totals") and not self.is_initializing():
      total.value += y_BD.sum()
    self.sow("intermediates", "y_BD", y_BD)
    return x_BD + y_BD, {"sum": y_BD.sum()}


def run(L, count, **options):
  kinds = tuple({"factor": float(1 + k)} for k in range(count))
  stack = Stack(block=Block, config=None, length=L, run=Run(**options), kinds=kinds)
  draw = np.random.default_rng(0)
  args = (
    np.float32(draw.standard_normal((2, D))),
    {"own": np.float32(draw.standard_normal((L, D)))},
    {"row_BD": np.float32(draw.standard_normal((2, D)))},
  )
  variables = stack.init(jax.random.key(0), *args)
  scale_L = np.linspace(1, 2, L, dtype=np.float32)
  variables = variables | {"scales": {LAYER: {"scale": scale_L}}}
  mutable = ["totals", "intermediates"]
  return variables, args, jax.jit(lambda v: stack.apply(v, *args, mutable=mutable))


@pytest.mark.parametrize("L, count", DEPTHS)
@pytest.mark.parametrize(
  "options",
  [dict(scan=True), dict(scan=False), dict(scan=True, remat="full")],
  ids=["scan", "unroll", "remat"],
)
def test_every_form_is_the_loop_by_hand(L, count, options):
  variables, (x_BD, inputs, rows), apply = run(L, count, **options)
  (actual_BD, outputs), updates = apply(variables)
  w_LDD = variables["params"][LAYER]["w"]
  assert w_LDD.shape == (L, D, D)
  sums = []
  for l in range(L):
    y_BD = x_BD @ w_LDD[l] + inputs["own"][l][None] + rows["row_BD"]
    y_BD = (1 + l % count) * variables["scales"][LAYER]["scale"][l] * y_BD
    shown_BD = updates["intermediates"][LAYER]["y_BD"][0][l]
    np.testing.assert_allclose(shown_BD, y_BD, rtol=1e-5, atol=1e-5)
    x_BD = x_BD + y_BD
    sums.append(y_BD.sum())
  np.testing.assert_allclose(actual_BD, x_BD, rtol=1e-5, atol=1e-5)
  for actual_L in (jnp.asarray(outputs["sum"]), updates["totals"][LAYER]["total"]):
    np.testing.assert_allclose(actual_L, sums, rtol=1e-4, atol=1e-5)


def test_only_stacked_weights_are_split():
  w_LDD = np.ones((2, D, D))
  tree = {"blocks": {LAYER: {"w": w_LDD}}, "embed": {"table": np.ones((4, D))}}
  params = split(tree)
  assert isinstance(params["blocks"][LAYER]["w"], tuple)
  assert [x.shape for x in params["blocks"][LAYER]["w"]] == [(D, D)] * 2
  assert params["embed"]["table"] is tree["embed"]["table"]
  assert split(params) == params


def test_an_unknown_policy_of_recomputing_is_a_mistake():
  with pytest.raises(ValueError, match="no remat 'some'; found: none, full, dots"):
    Run(remat="some")
