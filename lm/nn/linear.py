"""Products with weights: the one place that decides in which precision they happen.

Layers read a matrix by `dot` (einsum) or `ragged` (groups of rows, each with a matrix
of its own) and rows of a table by `take`. A weight that is no array, quantised or with
an adapter, is a `Weight`, which has these three itself. Scales and biases are added in
place.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.letters import Form, weight
from lm.nn import cpu, narrow

DTYPES = ("float32", "bfloat16", "float16")  # of operands


class Weight(Form):
  """The contract of a weight in place of an array; its leaves are split over layers.

  A kind of weight has those of the three that its place in a model needs.
  """

  def dense(self):
    """Returns the array that does the same, in float32."""
    raise NotImplementedError(f"no array does the same as {type(self).__name__}")

  def dot(self, equation: str, x, dtype):
    """Returns the product of x with it, as `linear.dot`."""
    raise NotImplementedError(f"{type(self).__name__} is read by no product")

  def dims(self):
    """Returns the letters of its arrays in place of them."""
    raise NotImplementedError(f"{type(self).__name__} is not split over devices")

  def take(self, ids):
    """Returns rows of it in float32, as `linear.take`."""
    raise NotImplementedError(f"rows of {type(self).__name__} cannot be taken")

  def ragged(self, x_RD, sizes_E, dtype):
    """Returns products of groups of rows, as `linear.ragged`."""
    raise NotImplementedError(f"{type(self).__name__} has no groups")


def is_weight(leaf) -> bool:
  """Returns True for a Weight: the `is_leaf` of a tree with some of them."""
  return isinstance(leaf, Weight)


def dot(equation: str, x, y, dtype):
  """Returns the einsum of two arrays: operands in `dtype`, sums and result in float32.

  The gradient of narrow operands rounds the cotangent to `dtype` as well; JAX's own
  multiplies float32 cotangents with bfloat16 operands, no faster than float32. Only
  float32 has forward-mode derivatives (`jax.jvp`, `jax.linearize`).

  >>> dot("BTD,DF->BTF", jnp.ones((2, 3, 4)), jnp.ones((4, 5)), "bfloat16").shape
  (2, 3, 5)
  """
  if isinstance(y, Weight):
    return y.dot(equation, x, dtype)
  xs, ys, out = re.split(",|->", equation)
  sizes = dict(zip(xs + ys, x.shape + y.shape, strict=True))
  equation, x, y = cpu.as_matrices(equation, x, y)
  if jnp.dtype(dtype).itemsize < 4:
    z = _narrow_dot(equation, x, y, dtype, _kernel(equation, x, y, dtype))
  elif _is_by_weight(equation):
    z = cpu.product(equation, x.astype(dtype), y.astype(dtype))
  else:
    z = cpu.einsum(equation, x.astype(dtype), y.astype(dtype))
  return z.reshape([sizes[letter] for letter in out])


def _is_by_weight(equation: str) -> bool:
  """Returns True if x has rows that y has not, as x_BTD and w_DF."""
  xs, ys, out = re.split(",|->", equation)
  return xs[0] == out[0] and xs[0] not in ys


@partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def _narrow_dot(equation, x, y, dtype, kernel=None):
  if kernel is not None:
    F = y.shape[equation.split(",")[1].index(equation[-1])]
    return narrow.product(kernel, x.astype(dtype), F, y)
  return cpu.einsum(equation, x.astype(dtype), y.astype(dtype))


def _kernel(equation: str, x, y, dtype) -> str | None:
  """Returns the kernel of lm.nn.narrow for weights y that are stored in bfloat16.

  None for any other product.
  """
  terms = re.split(",|->", equation)
  is_narrow = jnp.dtype(dtype) == y.dtype == jnp.bfloat16
  if not is_narrow or [len(term) for term in terms] != [2, 2, 2]:
    return None
  xs, ys, out = terms
  is_even = y.shape[1] % 2 == 0  # two numbers are read at once
  is_product = out == xs[0] + ys.replace(xs[1], "") and is_even
  if not is_product or not narrow.fits(x.shape[0], "bfloat16"):
    return None
  return "bfloat16" if ys[1] == xs[1] else "bfloat16_rows"


def _narrow_dot_forward(equation, x, y, dtype, kernel):
  # The tags carry the dtypes to return the gradients in; the casts are what is saved.
  tags = jnp.zeros((), x.dtype), jnp.zeros((), y.dtype)
  x, y = x.astype(dtype), y.astype(dtype)
  return _narrow_dot(equation, x, y, dtype, kernel), (x, y, tags)


def _narrow_dot_backward(equation, dtype, kernel, saved, g):
  del kernel
  x, y, (x_tag, y_tag) = saved
  xs, ys, out = re.split(",|->", equation)
  g = g.astype(dtype)
  dx = _narrow_dot(f"{out},{ys}->{xs}", g, y, dtype)
  if _is_by_weight(equation):
    dy = cpu.gradient(equation, x, g)
  else:
    dy = _narrow_dot(f"{xs},{out}->{ys}", x, g, dtype)
  return dx.astype(x_tag.dtype), dy.astype(y_tag.dtype)


_narrow_dot.defvjp(_narrow_dot_forward, _narrow_dot_backward)


def dims(w, letters: str):
  """Returns the letters of each array of a weight, in a tree like it; of an array its
  own, `letters`."""
  return w.dims() if isinstance(w, Weight) else letters


def take(table, ids):
  """Returns the rows of a table VD with these ids in float32: (*ids.shape, D).

  Of a table of rank 1, such as a bias_V, they are its values, of shape ids.shape.
  """
  if isinstance(table, Weight):
    return table.take(ids)
  return jnp.take(table, ids, axis=0).astype(jnp.float32)


def dense(w):
  """Returns the array that a weight stands for, in float32; an array is cast."""
  return w.dense() if isinstance(w, Weight) else jnp.asarray(w, jnp.float32)


def ragged(x_RD, w_EDF, sizes_E, dtype):
  """Returns y_RF: the first sizes_E[0] rows times w_EDF[0], the next times w_EDF[1]...

  Rows beyond the sum of the sizes give zeros. Precision as in `dot`.
  """
  if isinstance(w_EDF, Weight):
    return w_EDF.ragged(x_RD, sizes_E, dtype)
  x_RD, w_EDF = x_RD.astype(dtype), w_EDF.astype(dtype)
  return jax.lax.ragged_dot(x_RD, w_EDF, sizes_E, preferred_element_type=jnp.float32)


def fan_in(scale: float = 1.0):
  """Returns init(summed): a normal initialiser of std scale / sqrt(fan-in).

  The fan-in is the size of the `summed` first dimensions of a weight, which products
  contract.
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
  """Returns x times the weight `name` of `module`, in float32.

  Args:
    module: the linen module that gets the parameter `name`, and `name`_bias.
    name: of the weight.
    equation: an einsum of x and the weight, "BTD,DNH->BTNH".
    x: the input.
    shape: the sizes of the weight's letters.
    dtype: of the operands, see `dot`.
    bias: adds a bias with the letters that the weight adds to x; zeros at first.
    scale: of the initial weights, see `fan_in`.
  """
  inputs, (letters, out) = equation.split(",")[0], equation.split(",")[1].split("->")
  summed = sum(letter in inputs for letter in letters)
  w = weight(module, name, letters, shape, fan_in(scale)(summed))
  y = dot(equation, x, w, dtype)
  if bias:
    sizes = {a: n for a, n in zip(letters, shape, strict=True) if a in out}
    zeros, name = nn.initializers.zeros, f"{name}_bias"
    b = weight(module, name, "".join(sizes), sizes.values(), zeros)
    y = y + b.reshape([sizes.get(letter, 1) for letter in out])
  return y
