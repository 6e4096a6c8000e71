"""Gemma: local and global layers, for any number of layers, in every form of depth."""

from functools import partial

import jax
import numpy as np
import pytest
from families import CONTEXT, FAMILIES, VOCAB, tokens

from lm import models

B, T = 2, 8
WINDOW = FAMILIES["gemma"].fields["window"]
# (layers, period of global layers): whole periods, a part of one, less than one.
DEPTHS = [(4, 2), (5, 2), (7, 3), (2, 3), (3, 1)]
every_depth = pytest.mark.parametrize("layers, every", DEPTHS)


def run(scan, layers, every, params, **options):
  model = FAMILIES["gemma"].model(scan=scan, layers=layers, global_every=every)
  return jax.jit(
    lambda params: model.apply({"params": params}, tokens(B, T), **options)
  )(params)


@every_depth
@pytest.mark.parametrize("scan", [True, False])
def test_local_layers_see_a_window_and_global_layers_see_everything(
  scan, layers, every
):
  params = FAMILIES["gemma"].params(layers=layers)
  _, variables = run(scan, layers, every, params, mutable=["intermediates"])
  layer = variables["intermediates"]["blocks"]["layer"]
  probs_LBNTS = np.asarray(layer["attention"]["probs_BNTS"][0])
  ahead_TS = np.arange(T)[:, None] - np.arange(T)
  for l in range(layers):
    window = T if (l + 1) % every == 0 else WINDOW
    sees_TS = (ahead_TS >= 0) & (ahead_TS < window)
    np.testing.assert_array_equal((probs_LBNTS[l] > 0).all((0, 1)), sees_TS)
    np.testing.assert_array_equal((probs_LBNTS[l] > 0).any((0, 1)), sees_TS)


@every_depth
def test_unrolled_equals_scanned(layers, every):
  params = FAMILIES["gemma"].params(layers=layers)
  key = jax.random.key(1)

  def loss(params, **fields):
    model = FAMILIES["gemma"].model(
      layers=layers, global_every=every, dropout=0.25, **fields
    )
    options = dict(train=True, rngs={"dropout": key})
    logits_BTV, _ = model.apply({"params": params}, tokens(B, T), **options)
    return (logits_BTV**2).mean()

  values = [
    jax.jit(jax.value_and_grad(partial(loss, **fields)))(params)
    for fields in (dict(scan=True), dict(scan=False), dict(scan=True, remat="dots"))
  ]
  for value in values[1:]:
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5),
      value,
      values[0],
    )


@pytest.mark.parametrize("scan", [True, False])
def test_a_cache_of_layers_that_do_not_fill_a_turn(scan):
  family = FAMILIES["gemma"]
  model = family.model(scan=scan, layers=5, global_every=3)
  params, tokens_BT = family.params(layers=5), tokens(B, CONTEXT)
  step = jax.jit(
    lambda *args, **options: model.apply({"params": params}, *args, **options)
  )
  expected_BTV, _ = step(tokens_BT)
  cache, actual = model.init_cache(B, CONTEXT), []
  for t in range(CONTEXT):
    logits_B1V, cache = step(tokens_BT[:, t : t + 1], cache=cache)
    actual.append(logits_B1V)
  np.testing.assert_allclose(
    np.concatenate(actual, 1), expected_BTV, rtol=2e-5, atol=2e-5
  )


def test_local_layers_need_a_window():
  with pytest.raises(ValueError, match="window=0; local layers need 1 or more"):
    models.build("gemma", vocab=VOCAB, window=0)
