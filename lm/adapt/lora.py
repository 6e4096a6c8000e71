"""LoRA: a product of two narrow matrices beside each frozen one; DoRA on request.

  cfg.adapt = dict(name="lora", rank=8, alpha=16.0, where=".*attention/[qv]")

LoRA: Hu et al. 2021, arXiv:2106.09685: y = x W + (alpha / rank) x a b. DoRA: Liu et al.
2024, arXiv:2402.09353: the columns of W + (alpha / rank) a b, each scaled to a trained
length, through whose present length no gradient flows (section 4.3).
"""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from lm import adapt
from lm.errors import Mistake, positive
from lm.nn import linear

RANK = "A"  # the letter of the inner dimension
TINY = 1e-12  # least length: a column of zeros stays one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation(adapt.Adaptation):
  """Low-rank matrices beside those that `where` names."""

  rank: int = 8
  alpha: float = 16.0  # the product is multiplied by alpha / rank
  where: str = (
    ".*blocks/.*"  # a regular expression of weights; by default all in blocks
  )
  dora: bool = False  # columns of a length that is trained

  def __post_init__(self):
    positive(self, "rank", "alpha")

  @property
  def scale(self) -> float:
    """The factor of the product."""
    return self.alpha / self.rank

  def added(self, weights: dict) -> dict:
    matrices = {path: w for path, w in weights.items() if Sides.exist(w)}
    chosen = {p: w for p, w in matrices.items() if re.fullmatch(self.where, p)}
    if not chosen:
      raise Mistake(
        f"adapt.where={self.where!r} names no frozen matrix; there are "
        f"{', '.join(matrices) or 'none'}"
      )
    arrays = {}
    for number, (path, weight) in enumerate(chosen.items()):
      sides = Sides.of(weight)
      sizes = dict(zip(weight.letters, weight.shape, strict=True)) | {RANK: self.rank}
      shape_of = lambda names, sizes=sizes: tuple(sizes[name] for name in names)
      fan_in = 1
      for name in sides.summed:
        fan_in *= sizes[name]
      uniform = partial(_uniform, number=number, shape=shape_of(sides.a), fan_in=fan_in)
      arrays[f"{path}/a"] = _boxed(sides.a, uniform)
      zeros = partial(_constant, shape=shape_of(sides.b), value=0.0)
      arrays[f"{path}/b"] = _boxed(sides.b, zeros)
      if self.dora:
        ones = partial(_constant, shape=shape_of(sides.columns), value=1.0)
        arrays[f"{path}/length"] = _boxed(sides.columns, ones)
    return arrays

  def joined(self, weight, base, arrays: dict):
    sides = Sides.of(weight)
    options = dict(letters=sides.letters, summed=sides.summed, scale=self.scale)
    return Adapted(base, arrays["a"], arrays["b"], arrays.get("length"), **options)

  def merged(self, weight, base, arrays: dict):
    """Returns the sum; beside a base that is no array, such as int8, the same as apart.

    The sum would have to be rounded again, and would not be what was trained.
    """
    if isinstance(base, linear.Weight):
      return self.joined(weight, base, arrays)
    sides = Sides.of(weight)
    w = _sum(sides, base, arrays["a"], arrays["b"], self.scale)
    if not self.dora:
      return w
    length = _lengths(sides, w)
    return w * _aligned(sides, arrays["length"] / length)

  def started(self, weight, base, arrays: dict) -> dict:
    """Returns the arrays with the lengths of the columns of `base`."""
    if not self.dora:
      return arrays
    return arrays | {"length": _lengths(Sides.of(weight), linear.dense(base))}


@dataclasses.dataclass(frozen=True)
class Sides:
  """The letters of a matrix: those that its product sums over, and all others."""

  letters: str  # "DNH", with an L in front where it is stacked
  summed: str  # "D"

  @staticmethod
  def exist(weight: adapt.Weight) -> bool:
    """True for a matrix: all its products sum over the same letters.

    Experts are read in ways of their own, and have no adapters.
    """
    has_one = len({_summed(equation) for equation in weight.equations}) == 1
    return has_one and not {RANK, "E"} & set(weight.letters)

  @classmethod
  def of(cls, weight: adapt.Weight) -> "Sides":
    """Returns the sides of a Weight for which they exist."""
    return cls(weight.letters, _summed(next(iter(weight.equations))))

  @property
  def columns(self) -> str:
    """The letters that are not summed: a column's place."""
    return "".join(name for name in self.letters if name not in self.summed)

  @property
  def a(self) -> str:
    """The letters of the matrix from the input."""
    return "L" * ("L" in self.letters) + self.summed + RANK

  @property
  def b(self) -> str:
    """The letters of the matrix to the output."""
    return "L" * ("L" in self.letters) + RANK + self.columns.replace("L", "")


@struct.dataclass
class Adapted(linear.Weight):
  """A frozen matrix with two narrow ones, as `lm.nn.linear.dot` reads it."""

  base: jax.Array
  a: jax.Array
  b: jax.Array
  length: jax.Array | None  # of the columns, in DoRA
  letters: str = struct.field(pytree_node=False)  # with an L where it was stacked
  summed: str = struct.field(pytree_node=False)
  scale: float = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    return self.base.shape

  def dense(self):
    sides = Sides(self.letters[-len(self.shape) :], self.summed)
    w = _sum(sides, self.base, self.a, self.b, self.scale)
    if self.length is None:
      return w
    return w * _aligned(sides, self.length / _lengths(sides, w))

  def __array__(self, dtype=None, copy=None):
    return np.asarray(jax.tree.map(np.asarray, self).dense(), dtype)

  def dot(self, equation: str, x, dtype):
    xs, ys, out = re.split(",|->", equation)
    sides, base = Sides(ys, self.summed), jax.lax.stop_gradient(self.base)
    hs = "".join(name for name in xs if name not in self.summed) + RANK
    h = linear.dot(f"{xs},{sides.a}->{hs}", x, self.a, dtype)
    z = linear.dot(f"{hs},{sides.b}->{out}", h, self.b, dtype)
    y = linear.dot(equation, x, base, dtype) + self.scale * z
    if self.length is None:
      return y
    w = jax.lax.stop_gradient(_sum(sides, base, self.a, self.b, self.scale))
    ratio = self.length / _lengths(sides, w)
    sizes = dict(zip(sides.columns, ratio.shape, strict=True))
    return y * ratio.reshape([sizes.get(name, 1) for name in out])


def _summed(equation: str) -> str:
  xs, ys, out = re.split(",|->", equation)
  return "".join(name for name in ys if name in xs and name not in out)


def _sum(sides: Sides, base, a, b, scale: float):
  """Returns W + scale a b in float32."""
  product = jnp.einsum(f"{sides.a},{sides.b}->{sides.letters}", a, b)
  return linear.dense(base) + scale * product


def _lengths(sides: Sides, w):
  """Returns the length of each column."""
  squares = jnp.einsum(f"{sides.letters}->{sides.columns}", w.astype(jnp.float32) ** 2)
  return jnp.maximum(jnp.sqrt(squares), TINY)


def _aligned(sides: Sides, ratio):
  """Returns a number a column, to be multiplied with the matrix."""
  sizes = dict(zip(sides.columns, ratio.shape, strict=True))
  return ratio.reshape([sizes.get(name, 1) for name in sides.letters])


def _uniform(key, number: int, shape, fan_in: int):
  """Returns numbers of the range that PyTorch's linear layers start in, as in peft."""
  bound = fan_in**-0.5
  return jax.random.uniform(
    jax.random.fold_in(key, number), shape, minval=-bound, maxval=bound
  )


def _constant(key, shape, value: float):
  del key
  return jnp.full(shape, value, jnp.float32)


def _boxed(names: str, draw):
  return lambda key: nn.LogicallyPartitioned(draw(key), tuple(names))
