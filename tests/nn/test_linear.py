"""Matmuls (lm/nn/linear.py): values, gradients and precision."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.letters import make_mesh
from lm.nn import cpu
from lm.nn.linear import dot, fan_in, linear

EQUATIONS = {
  "BTD,DNH->BTNH": [(2, 3, 8), (8, 4, 5)],
  "BTNH,NHD->BTD": [(2, 3, 4, 5), (4, 5, 8)],
  "BTD,VD->BTV": [(2, 3, 8), (7, 8)],
  "BTKGH,BSKH->BKGTS": [(2, 3, 2, 2, 5), (2, 6, 2, 5)],
  "BKGTS,BSKH->BTKGH": [(2, 2, 2, 3, 6), (2, 6, 2, 5)],
  "BTD,EDF->BTEF": [(2, 3, 8), (4, 8, 5)],
  "BPQER,BPQD->EBPRD": [(2, 3, 4, 2, 5), (2, 3, 4, 8)],
}


def drawn(equation):
  draw = np.random.default_rng(0)
  return [draw.standard_normal(shape, np.float32) for shape in EQUATIONS[equation]]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_dot_is_the_einsum_and_so_are_its_gradients(equation):
  args = drawn(equation)
  by_dot = lambda x, y: jnp.sum(jnp.sin(dot(equation, x, y, "float32")))
  plain = lambda x, y: jnp.sum(jnp.sin(jnp.einsum(equation, x, y)))
  actual, expected = (
    jax.jit(jax.value_and_grad(f, (0, 1)))(*args) for f in (by_dot, plain)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, 2e-5, 2e-6), actual, expected
  )


@pytest.mark.parametrize("equation", EQUATIONS)
def test_bfloat16_operands_give_float32_sums_forwards_and_backwards(equation):
  args = drawn(equation)
  total = lambda x, y: jnp.sum(jnp.sin(dot(equation, x, y, "bfloat16")))
  program = jax.make_jaxpr(jax.grad(total, (0, 1)))(*args)
  dots = [e for e in _equations(program.jaxpr) if e.primitive.name == "dot_general"]
  assert len(dots) == 3  # the product, and one for each gradient
  for product in dots:
    assert {v.aval.dtype for v in product.invars} == {jnp.dtype("bfloat16")}
    assert product.outvars[0].aval.dtype == np.float32
  assert [v.aval.dtype for v in program.jaxpr.outvars] == [np.float32] * 2
  x, y = (a.astype(jnp.bfloat16) for a in args)
  gradients = jax.grad(total, (0, 1))(x, y)
  assert [g.dtype for g in gradients] == [x.dtype, y.dtype]


def test_one_row_in_bfloat16_is_the_first_of_two():
  x_BTD, w_DF = (
    np.random.default_rng(0).standard_normal(n) for n in ((1, 2, 8), (8, 5))
  )
  product = lambda x_BTD: dot("BTD,DF->BTF", x_BTD, w_DF, "bfloat16")
  one, two = product(x_BTD[:, :1]), product(x_BTD)
  np.testing.assert_array_equal(one, two[:, :1])
  program = jax.make_jaxpr(product)(x_BTD[:, :1])
  [matmul] = [e for e in _equations(program.jaxpr) if e.primitive.name == "dot_general"]
  assert matmul.invars[0].aval.shape == (2, 8)


def _equations(jaxpr):
  """Yields all equations of a jaxpr and of those inside it."""
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      inner = getattr(value, "jaxpr", None)
      if inner is not None:
        yield from _equations(inner)


class Lines(nn.Module):
  equation: str
  shape: tuple
  scale: float = 1.0

  @nn.compact
  def __call__(self, x):
    options = dict(dtype="float32", bias=True, scale=self.scale)
    return linear(self, "w", self.equation, x, self.shape, **options)


@pytest.mark.parametrize(
  "equation, x_shape, shape, bias",
  [
    ("BTD,DNH->BTNH", (2, 3, 8), (8, 4, 5), (4, 5)),
    ("BTNH,NHD->BTD", (2, 3, 4, 5), (4, 5, 8), (8,)),
    ("BTD,DV->BTV", (2, 3, 8), (8, 7), (7,)),
  ],
)
def test_a_bias_has_the_letters_that_the_weight_adds(equation, x_shape, shape, bias):
  x = np.random.default_rng(0).standard_normal(x_shape, np.float32)
  model = Lines(equation, shape)
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), x)["params"])
  assert params["w"].shape == shape and params["w_bias"].shape == bias
  assert not params["w_bias"].any()
  params["w_bias"] = np.arange(np.prod(bias), dtype=np.float32).reshape(bias)
  expected = np.einsum(equation, x, params["w"]) + params["w_bias"]
  np.testing.assert_allclose(model.apply({"params": params}, x), expected, atol=1e-5)


def test_weights_start_with_the_spread_of_their_fan_in():
  """Checks std 1/sqrt(fan in), so that outputs have the spread of the inputs."""
  x_BTNH = np.random.default_rng(0).standard_normal((2, 64, 8, 32), np.float32)
  model = Lines("BTNH,NHD->BTD", (8, 32, 500), scale=0.5)
  y_BTD, params = model.init_with_output(jax.random.key(0), x_BTNH)
  w = nn.meta.unbox(params)["params"]["w"]
  np.testing.assert_allclose(w.std(), 0.5 * 256**-0.5, rtol=0.02)
  np.testing.assert_allclose(y_BTD.std(), 0.5, rtol=0.05)
  np.testing.assert_allclose(
    fan_in()(1)(jax.random.key(0), (400, 300), np.float32).std(), 1 / 20, rtol=0.02
  )


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("sizes", [(2, 6, 8, 4), (2, 64, 8, 2), (2, 2, 64, 32)])
def test_bfloat16_gradients_run_and_are_the_same_numbers(equation, sizes):
  """Covers sizes for which each operand is the transposed one."""
  (xs, ys), outs = equation.split("->")[0].split(","), equation.split("->")[1]
  size = dict.fromkeys(xs + ys, sizes[3]) | dict(zip("BTD", sizes, strict=False))
  draw = np.random.default_rng(0)
  x, y, g = (
    draw.standard_normal([size[n] for n in d]).astype(jnp.bfloat16)
    for d in (xs, ys, outs)
  )
  total = lambda x, y: jnp.sum(dot(equation, x, y, "bfloat16") * g)
  actual = jax.jit(jax.grad(total, (0, 1)))(x, y)
  wide = [a.astype(np.float32) for a in (x, y, g)]
  for letters, gradient, factors in (
    (xs, actual[0], (wide[2], wide[1])),
    (ys, actual[1], wide[::2]),
  ):
    terms = f"{outs},{ys}" if letters == xs else f"{xs},{outs}"
    expected = np.einsum(f"{terms}->{letters}", *factors)
    # The tolerance is bfloat16's, relative to the largest value, since sums cancel.
    scale = 2**-7 * np.abs(expected).max()
    np.testing.assert_allclose(
      gradient.astype(np.float32), expected, rtol=2**-7, atol=scale
    )


def test_a_weight_gradient_transposes_the_smaller_arrays():
  """Checks the copies: x, or the cotangent and the gradient; none but on a CPU."""

  def copies(equation, x_shape, y_shape):
    x, y = jnp.zeros(x_shape, jnp.bfloat16), jnp.zeros(y_shape, jnp.bfloat16)
    gradient = jax.grad(lambda y: jnp.sum(jnp.sin(dot(equation, x, y, "bfloat16"))))
    program = str(jax.make_jaxpr(gradient)(y))
    return re.findall(r"bf16\[([\d,]+)\] = layout_constraint", program)

  is_cpu = jax.default_backend() == "cpu"
  wide = copies("BTF,FD->BTD", (2, 64, 128), (128, 8))
  assert wide == (["8,128"] if is_cpu else [])
  narrow = copies("BTD,DF->BTF", (2, 64, 8), (8, 128))
  assert narrow == (["8,128"] if is_cpu else [])


def test_what_is_materialised_is_computed_once_and_is_the_same():
  def two_readers(x, materialises):
    y = (x + 2) * 3
    y = cpu.materialise(y, x) if materialises else y
    return y / x, y.T + x

  x = jnp.linspace(1, 2, 4096).reshape(64, 64)
  jitted = jax.jit(two_readers, static_argnums=1)
  programs = [
    jitted.lower(x, materialises).compile().as_text() for materialises in (False, True)
  ]
  assert [program.count("f32[64,64]{1,0} add(%") for program in programs] == [3, 2]
  plain, materialised = (jitted(x, materialises) for materialises in (False, True))
  jax.tree.map(np.testing.assert_array_equal, plain, materialised)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_every_mode_of_differentiation_gives_the_einsums_derivatives(equation):
  """Checks float32: forward mode, and second derivatives in all three orders."""
  args = drawn(equation)
  along = [np.cos(x) for x in args]
  dot32 = lambda x, y: dot(equation, x, y, "float32")
  plain = lambda x, y: jnp.einsum(equation, x, y)

  def derivatives(product, args):
    f = lambda *args: jnp.sum(jnp.sin(product(*args)))
    first = lambda *args: jax.jvp(f, args, tuple(along))[1]
    pull = lambda *args: sum(map(jnp.vdot, jax.grad(f, (0, 1))(*args), along))
    second = [jax.grad(first, (0, 1))(*args), jax.grad(pull, (0, 1))(*args)]
    second.append(jax.jvp(jax.grad(f, (0, 1)), tuple(args), tuple(along))[1])
    return first(*args), second, jax.linearize(f, *args)[1](*along)

  actual, expected = (
    jax.jit(lambda *a, p=p: derivatives(p, a))(*args) for p in (dot32, plain)
  )
  near = lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 1e-4)
  jax.tree.map(near, actual, expected)


def test_vmap_of_a_product_is_a_batch_of_products():
  x, y = drawn("BTD,VD->BTV")
  total = lambda x: jnp.sum(jnp.sin(dot("TD,VD->TV", x, y, "float32")))
  looped = [jax.grad(total)(row) for row in x]
  np.testing.assert_allclose(jax.vmap(jax.grad(total))(x), looped, 1e-5, 1e-6)


def test_forms_for_a_cpu_are_not_in_a_program_for_another_target(monkeypatch):
  """Checks a mesh of several devices, too."""

  def forms():
    def f(x, w):
      y = cpu.materialise(
        cpu.materialise_cotangent(dot("BD,DF->BF", x, w, "float32")), x
      )
      return jnp.sum(cpu.transpose(y) + cpu.copy(y).T)

    x, w = jnp.ones((4, 8)), jnp.ones((8, 2))
    program = str(jax.make_jaxpr(jax.grad(f, (0, 1)))(x, w))
    names = ("layout_constraint", "while", "custom_linear_solve", "custom_jvp_call")
    return [name for name in names if name in program]

  assert len(forms()) >= 3
  with jax.set_mesh(make_mesh(data=8)):
    assert not forms()
  monkeypatch.setattr("lm.platform.target", lambda: "tpu")
  assert not forms()
