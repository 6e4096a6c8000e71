"""Forms for one CPU: the numbers of the plain computation, and where they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from lm.nn import cpu
from lm.objectives.softmax import cross_entropy

V = 131


@pytest.mark.parametrize("rows, loops", [((2, 24), True), ((3, 4), True), ((5, 7), 0)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logsumexp_by_rows(rows, loops, dtype, monkeypatch):
  monkeypatch.setattr(cpu, "LOGSUMEXP_BYTES", 0)
  draw = np.random.default_rng(0)
  logits = jnp.asarray(40 * draw.standard_normal((*rows, V)), dtype)
  logits = logits.at[..., -3:].set(jnp.finfo(dtype).min)  # a padded vocabulary
  targets = jnp.asarray(draw.integers(0, V - 3, rows))
  weights = jnp.asarray(draw.standard_normal(rows), jnp.float32)

  def plain(x):
    x = x.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(x, targets)

  def total(losses, x):
    return jnp.sum(losses(x) * weights)

  by_rows = lambda x: cross_entropy(x, targets)[0]
  assert ("scan" in str(jax.make_jaxpr(by_rows)(logits))) == bool(loops)
  assert by_rows(logits).dtype == jnp.float32
  np.testing.assert_allclose(by_rows(logits), plain(logits), rtol=1e-5, atol=1e-5)
  actual, expected = (
    jax.grad(total, argnums=1)(losses, logits) for losses in (by_rows, plain)
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-2, atol=1e-5)
  both = [jnp.float32(x) for x in (cpu.logsumexp(logits), logits)]
  np.testing.assert_allclose(both[0], jax.nn.logsumexp(both[1], axis=-1), rtol=1e-6)


def test_small_arrays_and_several_devices_are_left_alone():
  large = jax.ShapeDtypeStruct((16, 1 << 19), jnp.float32)
  assert large.size * 4 > cpu.LOGSUMEXP_BYTES
  loops = lambda x: "scan" in str(jax.make_jaxpr(cpu.logsumexp)(x))
  assert loops(large) and not loops(jnp.zeros((16, V)))
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
  with jax.set_mesh(mesh):
    assert not loops(large)
