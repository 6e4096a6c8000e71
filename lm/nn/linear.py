"""The one place where a matmul happens: precision, gradients and platform forms.

Quantised weights, LoRA and a platform's fast form belong here, so that no model ever
knows about them.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.experimental.layout import Layout, with_layout_constraint

from lm import dims

DTYPES = ("float32", "bfloat16", "float16")  # of operands


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def dot(equation, x, y, dtype):
  """The einsum of two arrays: operands in `dtype`, sums and result in float32.

  The gradient rounds the cotangent to `dtype` as well; left to itself, JAX multiplies
  float32 cotangents with bfloat16 operands, at the speed of float32 or less.
  """
  return jnp.einsum(
    equation, x.astype(dtype), y.astype(dtype), preferred_element_type=jnp.float32
  )


def _dot_forward(equation, x, y, dtype):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x.dtype), jnp.zeros((), y.dtype)
  return dot(equation, x, y, dtype), (x.astype(dtype), y.astype(dtype), tags)


def _dot_backward(equation, dtype, saved, g):
  x, y, (x_tag, y_tag) = saved
  (xs, ys), out = equation.split("->")[0].split(","), equation.split("->")[1]
  g = g.astype(dtype)
  dx = dot(f"{out},{ys}->{xs}", g, y, dtype)
  if _transposes_first(xs, ys, out, x):
    dy = _weight_gradient(xs, ys, out, x, g)
  else:
    dy = dot(f"{xs},{out}->{ys}", x, g, dtype)
  return dx.astype(x_tag.dtype), dy.astype(y_tag.dtype)


dot.defvjp(_dot_forward, _dot_backward)


def _transposes_first(xs, ys, out, x) -> bool:
  """Whether a weight's gradient, a sum over leading B and T, takes `_weight_gradient`.

  XLA:CPU hands a bfloat16 matmul to AMX or AVX512 only when the summed dimension is the
  last of the left operand and the first of the right; any other widens to float32. For
  x.T @ g of (1024, 768) and (1024, 3072) that is 100 GFLOP/s instead of 850.
  """
  shared = [letter for letter in xs if letter in out and letter not in ys]
  return (
    on_one_cpu()
    and x.dtype == jnp.bfloat16
    and len(shared) > 0
    and xs.startswith("".join(shared))
    and out.startswith("".join(shared))
    and len(xs) + len(out) == len(ys) + 2 * len(shared)
  )


def _weight_gradient(xs, ys, out, x, g):
  """The einsum "xs,out->ys" as a transposed copy times a matrix."""
  sizes = dict(zip(xs + out, x.shape + g.shape, strict=True))
  first, second = (x, g) if ys[0] in xs else (g, x)
  M = math.prod(sizes[letter] for letter in xs if letter in out)
  first_KM = transposed(first.reshape(M, -1))
  dy = jnp.dot(first_KM, second.reshape(M, -1), preferred_element_type=jnp.float32)
  return dy.reshape([sizes[letter] for letter in ys])


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
