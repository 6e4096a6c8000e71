"""Statistics of what the matrices of a model are multiplied with, on texts.

They are sums over the vectors x that a product sums over, one for each token:

  "gram"      the sum of x x^T, of shape (D, D)
  "squares"   the sum of x^2, of shape (D,)
  "sizes"     the sum of |x|, of shape (D,)

D is what one column sums over; a stack has L in front. The statistic comes out as the
cotangent of an array of zeros beside each matrix: so it is summed over all products of
a matrix, in loops as well, by what differentiation does anyway.
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from lm import trees
from lm.models import INPUTS
from lm.nn import linear
from lm.nn.quantised import Place

AT_ONCE = 2**30  # bytes of statistics of one pass over the texts

OF_ROWS = {
  "gram": lambda x_RD: x_RD.T @ x_RD,
  "squares": lambda x_RD: jnp.sum(x_RD**2, axis=0),
  "sizes": lambda x_RD: jnp.sum(jnp.abs(x_RD), axis=0),
}


def collect(subject, kind: str) -> dict:
  """Returns {path: statistic} of a Subject's matrices, as it is, on all its batches.

  Experts are left out, which a token need not reach, and tables of tokens, which are
  not only multiplied.
  """
  shapes = {
    path: _shape(kind, place, subject.leaves[path])
    for path, place in subject.places.items()
    if "E" not in place.letters and path not in subject.tables
  }
  batches, result = list(subject.batches()), {}
  for paths in _passes(shapes):
    step = _step(subject, kind, {path: shapes[path] for path in paths})
    total = None
    for batch in batches:
      arrays = {n: x for n, x in batch.items() if n == "tokens_BT" or n in INPUTS}
      sums = step(subject.params, arrays)
      total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    result |= total
  return result


def _shape(kind: str, place: Place, leaf) -> tuple[int, ...]:
  D = place.count(place.summed)
  lead = leaf.shape[: leaf.ndim - len(place.letters)]
  return (*lead, D, D) if kind == "gram" else (*lead, D)


def _passes(shapes: dict):
  """Yields lists of paths whose statistics fit into AT_ONCE; one at least."""
  paths, room = [], AT_ONCE
  for path, shape in shapes.items():
    num_bytes = 4 * math.prod(shape)
    if paths and num_bytes > room:
      yield paths
      paths, room = [], AT_ONCE
    paths.append(path)
    room -= num_bytes
  yield paths


def _step(subject, kind: str, shapes: dict):
  """Returns a function of (params, arrays of a batch): the statistics of some paths."""

  def outputs(tallies, params, arrays):
    leaves = trees.by_path(params)
    for path, tally in tallies.items():
      place = subject.places[path]
      leaves[path] = Watched(leaves[path], tally, place, kind)
    variables = {"params": trees.nested(leaves)}
    return jnp.sum(subject.model.apply(variables, **arrays)[0])

  @jax.jit
  def step(params, arrays):
    tallies = {path: jnp.zeros(shape, jnp.float32) for path, shape in shapes.items()}
    return jax.grad(outputs)(tallies, params, arrays)

  return step


@struct.dataclass
class Watched(linear.Weight):
  """A matrix whose products add to the cotangent of a tally."""

  value: jax.Array
  tally: jax.Array
  place: Place = struct.field(pytree_node=False)
  kind: str = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    return self.value.shape

  def dot(self, equation: str, x, dtype):
    how = (equation, self.place, self.kind, dtype)
    return _dot(how, x, self.value, self.tally)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dot(how, x, value, tally):
  del tally
  equation, _, _, dtype = how
  return linear.dot(equation, x, value, dtype)


def _dot_forward(how, x, value, tally):
  return _dot(how, x, value, tally), (x, value)


def _dot_backward(how, saved, g):
  del g
  (equation, place, kind, _), (x, value) = how, saved
  xs, ys, _ = re.split(",|->", equation)
  named = dict(zip(place.letters, ys, strict=True))
  summed = [named[name] for name in place.summed]
  order = [n for n in xs if n not in summed] + summed
  x_RD = x.transpose([xs.index(name) for name in order]).astype(jnp.float32)
  x_RD = x_RD.reshape(-1, place.count(place.summed))
  # Zeros, and not nothing: what comes before is differentiated for its own tallies.
  return jnp.zeros_like(x), jnp.zeros_like(value), OF_ROWS[kind](x_RD)


_dot.defvjp(_dot_forward, _dot_backward)
