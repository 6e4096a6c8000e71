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

from lm.letters import weight

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
  x, y = x.astype(dtype), y.astype(dtype)
  if x.dtype == jnp.bfloat16 and on_one_cpu() and not _lies(equation):
    return _turned(equation, x, y)
  return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def _dot_forward(equation, x, y, dtype):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x.dtype), jnp.zeros((), y.dtype)
  return _dot(equation, x, y, dtype), (x.astype(dtype), y.astype(dtype), tags)


def _dot_backward(equation, dtype, saved, g):
  x, y, (x_tag, y_tag) = saved
  xs, ys, out = re.split(",|->", equation)
  g = g.astype(dtype)
  dx = _dot(f"{out},{ys}->{xs}", g, y, dtype)
  if on_one_cpu() and xs[0] == out[0] and xs[0] not in ys:  # a weight's gradient
    ways = [(xs, x, out, g), (out, g, xs, x)]
    # What is copied: the first operand, and the gradient unless it comes out right.
    first, u, second, v = min(
      ways, key=lambda way: way[1].nbytes + 4 * y.size * (way[0][1:] + way[2][1:] != ys)
    )
    dy = _turned(f"{first},{second}->{ys}", u, v)
  else:
    dy = _dot(f"{xs},{out}->{ys}", x, g, dtype)
  return dx.astype(x_tag.dtype), dy.astype(y_tag.dtype)


_dot.defvjp(_dot_forward, _dot_backward)


def _order(equation):
  """The letters of x as a product reads them best, and those of what it gives."""
  xs, ys, out = re.split(",|->", equation)
  stacked = "".join(a for a in xs if a in ys and a in out)
  rows, columns = (
    "".join(a for a in t if a in out and a not in stacked) for t in (xs, ys)
  )
  summed = "".join(a for a in xs if a not in out)
  return stacked + rows + summed, (stacked + rows + columns, stacked + columns + rows)


def _lies(equation) -> bool:
  """Whether no operand has to be turned around before the product, nor the result."""
  xs, out = equation.split(",")[0], equation.split("->")[1]
  reads, gives = _order(equation)
  return xs == reads and out in gives


def _turned(equation, x, y):
  """The einsum in float32, by a copy of x with what is summed over as its last.

  XLA:CPU hands a bfloat16 matmul to AMX or AVX512 only when the summed dimension is the
  last of the left operand; any other widens to float32 (for x.T @ g of (1024, 768) and
  (1024, 3072) that is 100 GFLOP/s instead of 850), or fails when it has merged the
  product with what turns the result. In float32 it makes the copy itself, computing x
  anew, number by number in strides.
  """
  xs, ys, out = re.split(",|->", equation)
  reads, (gives, _) = _order(equation)
  x = _copied(jnp.transpose(x, [xs.index(letter) for letter in reads]))
  product = jnp.einsum(f"{reads},{ys}->{gives}", x, y, preferred_element_type="f4")
  if gives == out:
    return product
  return _copied(jnp.transpose(_copied(product), [gives.index(a) for a in out]))


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
  return _copied(jnp.swapaxes(x, -1, -2))


def _copied(x):
  return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def settled(x, witness):
  """`x`, computed once and kept, where XLA:CPU would do so anew for all that read it.

  A loop over it that runs only where the first number of `witness` is NaN, which is as
  good as never, and which XLA cannot know; its barriers are gone before it fuses.
  """
  if not on_one_cpu():
    return x
  times = jnp.isnan(witness[(0,) * witness.ndim]).astype(jnp.int32)
  return jax.lax.fori_loop(0, times, lambda _, x: -x, x)


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
  w = weight(module, name, w_dims, shape, fan_in(scale)(summed))
  y = dot(equation, x, w, dtype)
  if bias:
    b_dims = "".join(letter for letter in w_dims if letter in out)
    b_shape = [n for n, letter in zip(shape, w_dims, strict=True) if letter in out]
    y = y + _aligned(
      weight(module, f"{name}_bias", b_dims, b_shape, nn.initializers.zeros),
      b_dims,
      out,
    )
  return y


def _aligned(b, b_dims, out):
  """A bias with size-1 dimensions put in so that it broadcasts against `out`."""
  sizes = dict(zip(b_dims, b.shape, strict=True))
  return b.reshape([sizes.get(letter, 1) for letter in out])
