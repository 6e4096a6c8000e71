"""The one place where a matmul happens: precision, gradients and platform forms.

Quantised weights, LoRA and a platform's fast form belong here, so that no model ever
knows about them.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.experimental.layout import Layout, with_layout_constraint

from lm import dims

DTYPES = ("float32", "bfloat16", "float16")  # of operands


def dot(equation, x, y, dtype):
  """The einsum of two arrays: operands in `dtype`, sums and result in float32.

  The gradient rounds the cotangent to `dtype` as well; left to itself, JAX multiplies
  float32 cotangents with bfloat16 operands, at the speed of float32 or less.
  """
  if not on_one_cpu():
    return _dot(equation, x, y, dtype)
  # As matrices, or XLA:CPU turns around what is summed over in two dimensions.
  xs, ys, out = re.split(",|->", equation)
  sizes = dict(zip(xs + ys, x.shape + y.shape, strict=True))
  out_shape, merged = [sizes[letter] for letter in out], {}
  for group in _groups(equation):
    equation = equation.replace(group, group[0])
    merged[group[0]] = math.prod(sizes[letter] for letter in group)
  xs, ys, _ = re.split(",|->", equation)
  x, y = (
    z.reshape([merged[letter] for letter in term]) for z, term in ((x, xs), (y, ys))
  )
  return _dot(equation, x, y, dtype).reshape(out_shape)


def _groups(equation) -> list[str]:
  """The letters of an equation; those that are side by side wherever they are, as one.

  "BTD,DNH->BTNH" has the groups "BT", "D" and "NH".
  """
  terms, groups = re.split(",|->", equation), []
  for term in terms:
    for letter in term:
      last = groups[-1][-1] if groups else ""
      if any(letter in group for group in groups):
        continue
      if last and all(
        (last in t or letter in t) == (last + letter in t) for t in terms
      ):
        groups[-1] += letter
      else:
        groups.append(letter)
  return groups


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _dot(equation, x, y, dtype):
  return jnp.einsum(
    equation, x.astype(dtype), y.astype(dtype), preferred_element_type=jnp.float32
  )


def _dot_forward(equation, x, y, dtype):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x.dtype), jnp.zeros((), y.dtype)
  return _dot(equation, x, y, dtype), (x.astype(dtype), y.astype(dtype), tags)


def _dot_backward(equation, dtype, saved, g):
  x, y, (x_tag, y_tag) = saved
  (xs, ys), out = equation.split("->")[0].split(","), equation.split("->")[1]
  g = g.astype(dtype)
  dx = _dot(f"{out},{ys}->{xs}", g, y, dtype)
  if on_one_cpu() and len(xs) == len(ys) == len(out) == 2 and xs[0] == out[0]:
    dy = _weight_gradient(*((x, g) if ys[0] in xs else (g, x)))
  else:
    dy = _dot(f"{xs},{out}->{ys}", x, g, dtype)
  return dx.astype(x_tag.dtype), dy.astype(y_tag.dtype)


_dot.defvjp(_dot_forward, _dot_backward)


def _weight_gradient(x_MI, y_MO):
  """The sum over M of x_MI times y_MO, in float32, by a transposed copy.

  XLA:CPU hands a bfloat16 matmul to AMX or AVX512 only when the summed dimension is the
  last of the left operand and the first of the right; any other widens to float32 (for
  M, I, O of 1024, 768, 3072 that is 100 GFLOP/s instead of 850). In float32 it makes
  the copy itself, and does again, number by number in strides, what led to x.
  """
  product = partial(jnp.dot, preferred_element_type=jnp.float32)
  turned_bytes = y_MO.nbytes + 4 * x_MI.shape[1] * y_MO.shape[1]
  if x_MI.nbytes < turned_bytes:
    return product(transposed(x_MI), y_MO)
  # The barrier keeps XLA from making a product with a transposed result of both.
  return transposed(jax.lax.optimization_barrier(product(transposed(y_MO), x_MI)))


def on_one_cpu() -> bool:
  """Whether XLA:CPU compiles what is being traced, for one device."""
  mesh = jax.sharding.get_abstract_mesh()
  return jax.default_backend() == "cpu" and (mesh.empty or mesh.size == 1)


def transposed(x):
  """`x` with its last two dimensions exchanged, as a copy.

  The constraint makes it a transpose of its own; left alone, or behind an optimisation
  barrier, XLA:CPU merges it with its neighbours into a loop that strides through memory
  (33 ms in place of 8 for bfloat16 of 4096 x 1536, with the matmul that follows).
  """
  y = jnp.swapaxes(x, -1, -2)
  return with_layout_constraint(y, Layout(tuple(range(y.ndim))))


def fan_in(scale: float = 1.0):
  """An initialiser: normal, with standard deviation scale / sqrt(what is summed over).

  `shape` is the weight's, and `summed` how many of its first dimensions are contracted.
  """

  def init(summed):
    def normal(key, shape, dtype):
      std = scale / math.sqrt(math.prod(shape[:summed]))
      return std * jax.random.normal(key, shape, dtype)

    return normal

  return init


def linear(
  module: nn.Module, name, equation, x, shape, *, dtype, bias=False, scale=1.0
):
  """x times the weight `name` of `module`: linear(self, "q", "BTD,DNH->BTNH", x, ...).

  `shape` are the sizes of the weight's letters. A bias has the letters that the weight
  adds. The result is float32.
  """
  inputs, (w_dims, out) = equation.split(",")[0], equation.split(",")[1].split("->")
  summed = sum(letter in inputs for letter in w_dims)
  w = dims.weight(module, name, w_dims, shape, fan_in(scale)(summed))
  y = dot(equation, x, w, dtype)
  if bias:
    b_dims = "".join(letter for letter in w_dims if letter in out)
    b_shape = [n for n, letter in zip(shape, w_dims, strict=True) if letter in out]
    y = y + _aligned(
      dims.weight(module, f"{name}_bias", b_dims, b_shape, nn.initializers.zeros),
      b_dims,
      out,
    )
  return y


def _aligned(b, b_dims, out):
  """A bias with size-1 dimensions put in so that it broadcasts against `out`."""
  sizes = dict(zip(b_dims, b.shape, strict=True))
  return b.reshape([sizes.get(letter, 1) for letter in out])
