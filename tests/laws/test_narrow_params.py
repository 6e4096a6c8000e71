"""Parameters held in bfloat16: the same function as of their values in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, families_with, tokens

B, T = 2, 8


def both(name):
  """Returns (the parameters in bfloat16, the same values in float32)."""
  narrow = jax.tree.map(lambda x: jnp.asarray(x, "bfloat16"), FAMILIES[name].params())
  return narrow, jax.tree.map(lambda x: x.astype("float32"), narrow)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_logits_are_those_of_the_rounded_values(name):
  family = FAMILIES[name]
  # In bfloat16, sums that differ in the last bit of float32 may be rounded differently.
  for dtype, tolerance in (("float32", 2e-5), ("bfloat16", 2e-2)):
    apply, inputs = jax.jit(family.model(dtype=dtype).apply), family.inputs(B)
    actual, expected = (
      apply({"params": params}, tokens(B, T), **inputs)[0] for params in both(name)
    )
    assert actual.dtype == expected.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=tolerance)


@families_with(decodes=True)
def test_cached_decoding_is_too(name):
  family = FAMILIES[name]
  model, logits = family.model(), []
  step = jax.jit(lambda p, x, c, i: model.apply({"params": p}, x, cache=c, **i))
  for params in both(name):
    cache, rows = model.init_cache(B, T), []
    for t in range(T):
      inputs = {} if t else family.inputs(B)
      row, cache = step(params, tokens(B, T)[:, t : t + 1], cache, inputs)
      rows.append(np.asarray(row))
    logits.append(np.concatenate(rows, axis=1))
  np.testing.assert_allclose(*logits, atol=2e-5, rtol=2e-5)
