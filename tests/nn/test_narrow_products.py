"""Kernels of narrow products: the numbers of plain JAX, read in place."""

import concurrent.futures
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm import platform
from lm.letters import make_mesh
from lm.nn import linear, narrow, quantised
from lm.nn.quantised import Place

pytestmark = pytest.mark.skipif(not narrow.is_installed(), reason="numba is optional")
N, K = 70, 40  # neither is a multiple of 16 or 32


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def dot(equation, dtype="float32"):
  """Returns a jitted product, compiled anew."""
  return jax.jit(functools.partial(linear.dot, equation, dtype=dtype))


def kernels(function, *args) -> int:
  """Returns the number of kernels that a function calls."""
  return str(jax.make_jaxpr(function)(*args)).count(f"target_name={platform.NARROW}")


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 128])
@pytest.mark.parametrize("kind", ["int8", "int8_groups", "int4", "int4_scaled"])
def test_quantised_products_are_those_of_plain_jax(kind, rows, monkeypatch):
  w_VD = drawn(N, K, seed=1)
  w_VD[3] = 0
  w_VD[5] *= 1e-6  # scales below float16's normal numbers
  w = quantised.kind(kind).of(w_VD, Place.of("VD", "D", w_VD.shape))
  x_BD = drawn(rows, K)
  assert kernels(dot("BD,VD->BV"), x_BD, w) == 1
  assert not kernels(dot("BD,VD->BV"), drawn(129, K), w)
  actual = dot("BD,VD->BV")(x_BD, w)
  np.testing.assert_allclose(actual, x_BD @ np.asarray(w).T, rtol=1e-4, atol=1e-5)
  monkeypatch.setattr(narrow, "is_installed", lambda: False)
  assert not kernels(dot("BD,VD->BV"), x_BD, w)
  plain = dot("BD,VD->BV")(x_BD, w)
  np.testing.assert_allclose(actual, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
  "equation, shape",
  [("BTD,VD->BTV", (N, K)), ("BTD,DNH->BTNH", (K, 7, 10)), ("BTD,DF->BTF", (K - 3, N))],
)
def test_bfloat16_products_are_those_of_plain_jax(equation, shape, rows, monkeypatch):
  w = jnp.asarray(drawn(*shape, seed=1), jnp.bfloat16)
  sizes = dict(zip(equation.split(",")[1], shape, strict=False))
  x_BTD = drawn(1, rows, sizes["D"])
  function = dot(equation, "bfloat16")
  assert kernels(function, x_BTD, w) == 1
  actual = function(x_BTD, w)
  gradient = jax.grad(lambda x: jnp.sum(jnp.sin(function(x, w))))(x_BTD)
  monkeypatch.setattr(narrow, "is_installed", lambda: False)
  function = dot(equation, "bfloat16")
  np.testing.assert_allclose(actual, function(x_BTD, w), rtol=1e-5, atol=1e-5)
  plain = jax.grad(lambda x: jnp.sum(jnp.sin(function(x, w))))(x_BTD)
  np.testing.assert_allclose(gradient, plain, rtol=1e-2, atol=1e-2)
  assert not kernels(function, x_BTD, w.astype(jnp.float32))


def test_in_a_loop_and_in_parts(monkeypatch):
  """Adds up a product in a while loop, whose parts several threads compute."""
  monkeypatch.setattr(narrow, "PART", 1)
  w_VD, x_BD = drawn(48, 48, seed=1) / 10, drawn(2, 48)
  w = quantised.kind("int8").of(w_VD, Place.of("VD", "D", w_VD.shape))
  step = lambda x_BD: jnp.tanh(linear.dot("BD,VD->BV", x_BD, w, "float32"))
  assert kernels(step, x_BD) == 1

  @jax.jit
  def loop(x_BD):
    body = lambda carry: (carry[0] + 1, step(carry[1]))
    return jax.lax.while_loop(lambda carry: carry[0] < 5, body, (0, x_BD))[1]

  expected = x_BD
  for _ in range(5):
    expected = np.tanh(expected @ np.asarray(w).T)
  np.testing.assert_allclose(loop(x_BD), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "int4", "bfloat16", "bfloat16_rows"])
def test_many_threads_at_once_get_the_same_bits(kind, monkeypatch):
  """Runs more products at once than there are jobs, whose threads are shared."""
  monkeypatch.setattr(narrow, "PART", 64)
  dtype, w = "float32", drawn(96, 192, seed=1)
  if kind.startswith("bfloat16"):
    dtype, w = "bfloat16", jnp.asarray(w, jnp.bfloat16)
  else:
    w = quantised.kind(kind).of(w, Place.of("VD", "D", w.shape))
  equation, D = ("BD,DF->BF", 96) if kind == "bfloat16_rows" else ("BD,VD->BV", 192)
  function, inputs = dot(equation, dtype), [drawn(3, D, seed=i) for i in range(24)]
  assert kernels(function, inputs[0], w) == 1
  expected = [np.asarray(function(x_BD, w)) for x_BD in inputs]
  with concurrent.futures.ThreadPoolExecutor(24) as pool:
    for _ in range(20):
      several = list(pool.map(lambda x_BD: np.asarray(function(x_BD, w)), inputs))
      np.testing.assert_array_equal(several, expected)


def test_several_devices_have_no_kernel():
  w_VD = drawn(64, 64)
  w = quantised.kind("int8").of(w_VD, Place.of("VD", "D", w_VD.shape))
  with jax.set_mesh(make_mesh(fsdp=8)):
    assert not kernels(dot("BD,VD->BV"), drawn(2, 64), w)


def test_flops_are_counted():
  w_VD = drawn(N, K)
  w = quantised.kind("int8").of(w_VD, Place.of("VD", "D", w_VD.shape))
  assert platform.count(dot("BD,VD->BV"), drawn(3, K), w) == 2 * 3 * N * K
