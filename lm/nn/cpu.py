"""Forms of a computation that XLA:CPU compiles to fast code, each by a name.

Every form gives the numbers of the plain computation and is that computation elsewhere:
on another platform, and on a mesh of several devices, which may split what a form
merges. Callers therefore choose nothing. Measured on two Intel cores with AMX.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from lm import platform

LOGSUMEXP_ROWS, LOGSUMEXP_BYTES = 16, 1 << 24  # of a tile; of an array worth a loop


def active() -> bool:
  """Returns True if XLA:CPU compiles what is being traced, for one device."""
  return platform.target() == "cpu" and platform.one_device()


def lacks_ragged_products() -> bool:
  """Returns True if `jax.lax.ragged_dot` multiplies every row by every matrix."""
  return platform.target() == "cpu"


# -- arrays in memory


def copy(x):
  """Returns x as an array of its own, the last dimension contiguous.

  Without it XLA:CPU computes x anew in each of its consumers, in their own order:
  cosines of rotary positions for every layer, head and row, a quarter of the step of a
  small model. `jax.lax.optimization_barrier` is removed before XLA:CPU decides so.
  """
  if not active():
    return x
  return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def transpose(x):
  """Returns x with its last two dimensions exchanged, as a copy.

  XLA:CPU merges any other transpose with its neighbours into a loop that strides
  through memory: bfloat16 of 4096 x 1536 with the matmul that follows 33 -> 8 ms.
  """
  return copy(jnp.swapaxes(x, -1, -2))


def materialise(x, witness):
  """Returns x, computed once also where several consumers read it.

  XLA:CPU would compute it anew in each of them, and then not update parameters in
  place. Implemented as a while loop whose trip count, isnan(witness[0]), is 0 in
  practice, which the compiler cannot know; derivatives pass by the loop. AdamW of a
  table of 50,304 x 768 with the norms of the metrics: 136 -> 67 to 87 ms.
  """
  return _materialise(x, witness) if active() else x


@jax.custom_jvp
def _materialise(x, witness):
  count = jnp.isnan(witness[(0,) * witness.ndim]).astype(jnp.int32)
  return jax.lax.fori_loop(0, count, lambda _, x: -x, x)


@_materialise.defjvp
def _materialise_jvp(primals, tangents):
  return _materialise(*primals), tangents[0]


def materialise_cotangent(x):
  """Returns x, whose cotangent is materialised before it is passed on.

  Between layers: each would otherwise sum the residual gradients of those above anew.
  GPT-2 124M on one core: elementwise work outside of attention 1.13 -> 0.97 s.
  """
  if not active():
    return x
  return _linear(lambda x: x, lambda g: materialise(g, g), x)


def merge_leading(x, count: int):
  """Returns x with its first `count` dimensions as one.

  Sums beside a dimension of size 1 take XLA:CPU 20 times as long.
  """
  return x.reshape(-1, *x.shape[count:]) if active() else x


# -- reductions


def logsumexp(x):
  """Returns log(sum(exp(x))) over the last dimension, in float32.

  A few rows at a time, which stay in the cache between their maximum and their sum;
  XLA:CPU reads the whole array twice, on one core. 1024 rows of 50,304 on two busy
  cores: 414 -> 127 ms. For the primal of a function with a derivative of its own: that
  of the loop is slow. Small arrays are left alone, and rows that no tile of 4 divides.
  """
  count = math.prod(x.shape[:-1])
  rows = math.gcd(count, LOGSUMEXP_ROWS)
  if not active() or rows < 4 or x.nbytes < LOGSUMEXP_BYTES:
    return jax.nn.logsumexp(x.astype(jnp.float32), axis=-1)
  tiles = x.reshape(count // rows, rows, x.shape[-1])
  of_tile = lambda tile: jax.nn.logsumexp(tile.astype(jnp.float32), axis=-1)
  return jax.lax.map(of_tile, tiles).reshape(x.shape[:-1])


# -- products


def as_matrices(equation: str, x, y):
  """Returns (equation, x, y) with dimensions merged that stay side by side.

  "BTD,DNH->BTNH" becomes "BD,DN->BN". XLA:CPU transposes an operand of which two
  dimensions are summed over.
  """
  if not active():
    return equation, x, y
  xs, ys, _ = re.split(",|->", equation)
  sizes = dict(zip(xs + ys, x.shape + y.shape, strict=True))
  merged = {}
  for group in _groups(equation):
    equation = equation.replace(group, group[0])
    merged[group[0]] = math.prod(sizes[letter] for letter in group)
  xs, ys, _ = re.split(",|->", equation)
  shape = lambda term: [merged[letter] for letter in term]
  return equation, x.reshape(shape(xs)), y.reshape(shape(ys))


def einsum(equation: str, x, y):
  """Returns the einsum of two arrays in float32, bfloat16 operands laid out for AMX.

  XLA:CPU gives a bfloat16 product to AMX or AVX512 only if the summed dimension is the
  last of the left operand. It widens any other to float32 (x.T @ g of (1024, 768) and
  (1024, 3072): 850 -> 100 GFLOP/s), or fails when it has merged the product with a
  transpose of the result. One row is computed twice: alone it takes 5 times as long.
  """
  if active() and x.dtype == jnp.bfloat16:
    if _is_one_row(equation, x):
      return einsum(equation, jnp.concatenate([x, x]), y)[:1]
    if not _is_laid_out(equation):
      return _laid_out(equation, x, y)
  return jnp.einsum(equation, x, y, preferred_element_type=jnp.float32)


def gradient(equation: str, x, g):
  """Returns the cotangent of y in einsum(equation, x, y) with the cotangent g.

  The smaller copy is made: of x, or of g and the result, so that the summed dimension
  is the last of the left operand. In float32 XLA:CPU would copy number by number in
  strides, and compute the operand anew to do so: a step of a small GPT-2 x 0.85.
  """
  xs, ys, out = re.split(",|->", equation)
  if not active():
    return einsum(f"{xs},{out}->{ys}", x, g)

  sizes = dict(zip(xs + out, x.shape + g.shape, strict=True))
  nbytes = 4 * math.prod(sizes[letter] for letter in ys)

  def cost(order):
    """Bytes to copy: the left operand, and the result unless its order is right."""
    (left, array), (right, _) = order
    _, (result, _) = _orders(f"{left},{right}->{ys}")
    return array.nbytes + nbytes * (result != ys)

  orders = (((xs, x), (out, g)), ((out, g), (xs, x)))
  (left, x), (right, y) = min(orders, key=cost)
  return _laid_out(f"{left},{right}->{ys}", x, y)


def product(equation: str, x, y):
  """Returns the einsum of float32 arrays, for which the cotangent of y is `gradient`'s.

  All modes of differentiation work, to any order.
  """
  return _product(equation, x, y) if active() else einsum(equation, x, y)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _product(equation, x, y):
  return einsum(equation, x, y)


@partial(_product.defjvp, symbolic_zeros=True)
def _product_jvp(equation, primals, tangents):
  (x, y), (dx, dy) = primals, tangents
  out = product(equation, x, y)
  terms = []
  if not isinstance(dx, jax.custom_derivatives.SymbolicZero):
    terms.append(einsum(equation, dx, y))
  if not isinstance(dy, jax.custom_derivatives.SymbolicZero):
    apply = partial(product, equation, x)
    transpose = partial(gradient, equation, x)
    terms.append(_linear(apply, transpose, dy))
  return out, sum(terms[1:], start=terms[0])


def _linear(apply, transpose, x):
  """Returns apply(x), a linear function whose transpose is the function `transpose`.

  A custom_vjp would end forward mode. This is the solution z of the system y = x,
  z - apply(y) = 0, whose solver JAX lets one write, and that of the transposed system
  with it. Adding `_zeros` costs nothing and keeps JAX from taking a tangent of one part
  of the system for zero or a constant, which its rules for such systems do not handle.
  """

  def matvec(pair):
    z = apply(pair[0])
    return pair[0] + _zeros(z, pair[0]), pair[1] - z

  def solve(_, pair):
    return pair[0], pair[1] + apply(pair[0])

  def transpose_solve(_, pair):
    return pair[0] + transpose(pair[1]), pair[1]

  like = jax.eval_shape(apply, x)
  system = x, _zeros(x, like)
  y, z = jax.lax.custom_linear_solve(matvec, system, solve, transpose_solve)
  return z + _zeros(y, like)


def _zeros(x, like):
  """Zeros of the shape of `like` that are, to JAX, a linear function of x."""
  return jnp.pad(x.reshape(-1)[:0], (0, like.size)).reshape(like.shape)


def _groups(equation: str) -> list[str]:
  """Returns the letters of an equation; those side by side in every term as one string.

  "BTD,DNH->BTNH" has the groups "BT", "D" and "NH".
  """
  terms, groups = re.split(",|->", equation), []
  for letter in dict.fromkeys("".join(terms)):
    last = groups[-1][-1] if groups else ""
    if last and all((last in t or letter in t) == (last + letter in t) for t in terms):
      groups[-1] += letter
    else:
      groups.append(letter)
  return groups


def _orders(equation: str):
  """Returns the order of x's letters with the summed ones last, and two of the result.

  Those of the result are the order in which a product then gives it, and that with rows
  and columns exchanged.
  """
  xs, ys, out = re.split(",|->", equation)
  stacked = "".join(a for a in xs if a in ys and a in out)
  rows, columns = (
    "".join(a for a in term if a in out and a not in stacked) for term in (xs, ys)
  )
  summed = "".join(a for a in xs if a not in out)
  return stacked + rows + summed, (stacked + rows + columns, stacked + columns + rows)


def _is_laid_out(equation: str) -> bool:
  """Returns True if neither the left operand nor the result has to be transposed."""
  xs, out = equation.split(",")[0], equation.split("->")[1]
  left, results = _orders(equation)
  return xs == left and out in results


def _is_one_row(equation: str, x) -> bool:
  """Returns True for a matrix x of one row, which the result has."""
  xs, ys, out = re.split(",|->", equation)
  return x.ndim == 2 and x.shape[0] == 1 and xs[0] == out[0] and xs[0] not in ys


def _laid_out(equation: str, x, y):
  """Returns the einsum in float32, by a copy of x with the summed dimensions last."""
  xs, ys, out = re.split(",|->", equation)
  left, (result, _) = _orders(equation)
  x = copy(jnp.transpose(x, [xs.index(letter) for letter in left]))
  z = jnp.einsum(f"{left},{ys}->{result}", x, y, preferred_element_type=jnp.float32)
  if result == out:
    return z
  return copy(jnp.transpose(copy(z), [result.index(letter) for letter in out]))
