"""Quantised matrices: their numbers, and products that read them."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

from lm import lookup
from lm.nn import linear, narrow, quantised
from lm.nn.quantised import Place, int4, int8, nf4, two_of_four

KINDS = lookup.names("lm.nn.quantised")
# Equation: (letters that the product sums over, the shape of x, that of the matrix).
EQUATIONS = {
  "BTD,DNH->BTNH": ("D", (2, 3, 64), (64, 4, 5)),
  "BTNH,NHD->BTD": ("NH", (2, 3, 4, 32), (4, 32, 6)),
  "BTD,VD->BTV": ("D", (2, 3, 40), (7, 40)),  # groups do not divide 40
  "BTD,EDF->BTEF": ("D", (2, 3, 64), (3, 64, 5)),
  "BTEF,EFD->BTD": ("F", (2, 3, 3, 64), (3, 64, 5)),
}
BITS = {
  "int8": 8,
  "int8_groups": 8.5,
  "int8_dynamic": 8,
  "fp8": 8,
  "int4": 4.5,
  "int4_scaled": 4.5,
}
BITS |= {"nf4": 4.5, "two_of_four": 18}


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def made(kind, equation, stack=()):
  """Returns (x, an array, and the weight of a kind for it)."""
  summed, x_shape, shape = EQUATIONS[equation]
  array = drawn(*stack, *shape, seed=1)
  letters = "L" * len(stack) + equation.split(",")[1].split("->")[0]
  place = Place.of(letters, summed, array.shape)
  return drawn(*x_shape), array, quantised.kind(kind).of(array, place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_products_are_those_with_the_array_it_stands_for(equation, kind):
  x, array, w = made(kind, equation)
  assert w.shape == array.shape and len(w) == len(array)
  dense = np.asarray(w)
  product = jax.jit(lambda x, w: linear.dot(equation, x, w, "float32"))
  actual, expected = product(x, w), np.einsum(equation, x, dense)
  # Dynamic inputs are rounded as well: to a 254th of their range.
  atol = 0.02 * np.abs(expected).max() if kind == "int8_dynamic" else 1e-4
  np.testing.assert_allclose(actual, expected, atol=atol)
  pull = jax.vjp(lambda x: product(x, w), x)[1]
  plain = jax.vjp(lambda x: jnp.einsum(equation, x, dense), x)[1]
  g = drawn(*expected.shape, seed=2)
  np.testing.assert_allclose(pull(g)[0], plain(g)[0], atol=1e-4)
  np.testing.assert_allclose(
    linear.dot(equation, x, w, "bfloat16"), expected, atol=0.05 * np.abs(expected).max()
  )


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_its_matrices_one_by_one(kind):
  _, array, w = made(kind, "BTNH,NHD->BTD", stack=(2,))
  _, _, single = made(kind, "BTNH,NHD->BTD")
  assert w.shape == array.shape
  for l in range(2):
    own = jax.tree.map(lambda leaf, l=l: leaf[l], w)
    assert own.shape == array.shape[1:]
    expected = type(w).of(array[l], single.place)
    jax.tree.map(np.testing.assert_array_equal, own, expected)
    np.testing.assert_array_equal(w.dense()[l], own.dense())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_groups_of_rows(kind):
  _, _, table = made(kind, "BTD,VD->BTV")
  ids = np.array([[0, 6], [3, 3]])
  if kind != "int4_scaled":
    np.testing.assert_array_equal(linear.take(table, ids), np.asarray(table)[ids])
  _, _, w = made(kind, "BTD,EDF->BTEF")
  x_RD, sizes_E = drawn(9, 64), np.array([4, 0, 3], np.int32)
  expected = linear.ragged(x_RD, w.dense(), sizes_E, "float32")
  np.testing.assert_allclose(
    linear.ragged(x_RD, w, sizes_E, "float32"), expected, atol=1e-4
  )


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_its_bits(kind):
  shape = (256, 512)
  w = quantised.abstract(kind, "DF", "D", shape)
  num_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(w))
  assert BITS[kind] <= 8 * num_bytes / (shape[0] * shape[1]) < BITS[kind] + 0.2


def test_int8_is_torch_per_channel():
  array = drawn(5, 33)
  w = int8.Matrix.of(array, Place.of("VD", "D", array.shape))
  scales = torch.from_numpy(np.abs(array).max(1) / 127)
  zeros = torch.zeros(5, dtype=torch.int32)
  expected = torch.fake_quantize_per_channel_affine(
    torch.from_numpy(array), scales, zeros, 0, -127, 127
  )
  np.testing.assert_allclose(w.dense(), expected.numpy(), rtol=1e-6)


def test_int8_inputs_are_summed_in_whole_numbers():
  x_BD, w_VD = drawn(4, 40), drawn(7, 40, seed=1)
  w = quantised.kind("int8_dynamic").of(w_VD, Place.of("VD", "D", w_VD.shape))
  scale_B1 = torch.from_numpy(np.abs(x_BD).max(1, keepdims=True) / 127)
  whole_BD = torch.round(torch.from_numpy(x_BD) / scale_B1).int()
  sums_BV = whole_BD @ torch.from_numpy(np.array(w.values)).int().T
  expected = sums_BV.float() * scale_B1 * torch.from_numpy(np.array(w.scales))
  actual = linear.dot("BD,VD->BV", x_BD, w, "float32")
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_int4_is_q4_0():
  array = drawn(6, 96)
  array[2, :32] = 0
  blocks = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q4_0)
  w = int4.Matrix.of(array, Place.of("VD", "D", array.shape))
  own = np.concatenate(
    [np.array(w.scales)[..., None].view(np.uint8), np.array(w.values)], axis=-1
  )
  np.testing.assert_array_equal(own.reshape(6, -1), blocks)
  expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_0)
  np.testing.assert_array_equal(w.dense(), expected)


def test_nf4_has_the_published_values():
  """Follows the text of the paper's appendix E: quantiles of a normal, to 1."""
  offset, quantile = 0.9677083, scipy.stats.norm.ppf
  above = quantile(np.linspace(offset, 0.5, 9)[:-1])
  below = -quantile(np.linspace(offset, 0.5, 8)[:-1])
  expected = np.sort(np.concatenate([above, [0.0], below]))
  np.testing.assert_allclose(nf4.VALUES, expected / expected.max(), atol=1e-6)
  array = drawn(3, 64)
  w = nf4.Matrix.of(array, Place.of("VD", "D", array.shape))
  units = array / np.abs(array).max(1, keepdims=True)
  nearest = np.abs(units[..., None] - nf4.VALUES).argmin(-1)
  expected = nf4.VALUES[nearest] * np.abs(array).max(1, keepdims=True)
  np.testing.assert_allclose(w.dense(), expected, rtol=1e-6)


def test_fp8_is_torch_float8():
  array = drawn(5, 33)
  w = quantised.kind("fp8").of(array, Place.of("VD", "D", array.shape))
  scale = np.abs(array).max(1, keepdims=True) / 448
  expected = torch.from_numpy(array / scale).to(torch.float8_e4m3fn).float()
  expected = expected.numpy() * scale
  np.testing.assert_allclose(w.dense(), expected, rtol=1e-6)


def test_two_of_four_keeps_the_two_largest():
  array = drawn(5, 42)
  w = two_of_four.Matrix.of(array, Place.of("VD", "D", array.shape))
  padded = np.pad(array, [(0, 0), (0, 2)]).reshape(5, -1, 4)
  order = np.argsort(-np.abs(padded), axis=-1)
  np.put_along_axis(padded, order[..., 2:], 0, axis=-1)
  np.testing.assert_array_equal(w.dense(), padded.reshape(5, -1)[:, :42])


def test_what_is_not_a_kind_is_one_line():
  with pytest.raises(ValueError, match="no 'int3' in lm/nn/quantised; did you mean"):
    quantised.kind("int3")


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"int8_dynamic"}))
def test_no_copy_in_full_stays_through_a_loop(kind, monkeypatch):
  """Compiles a loop over eight matrices: they are widened one after the other."""
  monkeypatch.setattr(narrow, "is_installed", lambda: False)
  size, count = 256, 8
  weights = (quantised.abstract(kind, "VD", "D", (size, size)),) * count

  def loop(weights, x_BD):
    def body(carry):
      step, x_BD = carry
      for w in weights:
        x_BD = jnp.tanh(linear.dot("BD,VD->BV", x_BD, w, "float32"))
      return step + 1, x_BD

    return jax.lax.while_loop(lambda carry: carry[0] < 9, body, (0, x_BD))

  x_BD = jax.ShapeDtypeStruct((2, size), jnp.float32)
  compiled = jax.jit(loop).lower(weights, x_BD).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 * size**2
