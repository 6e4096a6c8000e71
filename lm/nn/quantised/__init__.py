"""Matrices in few bits, which products read as they are stored.

  place = quantised.Place.of("DNH", "D", w_DNH.shape)
  w = quantised.kind("int8").of(w_DNH, place)
  y_BTNH = linear.dot("BTD,DNH->BTNH", x_BTD, w, "bfloat16")

A kind is a file here with a class `Matrix`; adding the file is registering it. Its
arrays have the dimensions of what the matrix gives first, its columns, and those that
products sum over last, so that what one sum reads lies side by side. A stack has one
more in front, for its layers.

No gradient goes to what is stored: a quantised model is trained by what is beside it,
such as LoRA. The gradient to x is that of the product with `dense()`.
"""

import dataclasses
import itertools
import math
import re
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lm import lookup
from lm.errors import Mistake
from lm.letters import RULES, sharding
from lm.nn import linear, narrow
from lm.nn.quantised import _loops

WHOLE = "L"  # a letter that no mesh splits


@dataclasses.dataclass(frozen=True)
class Place:
  """The matrix that a weight stands for: its letters and sizes, without those of L."""

  letters: str  # "DNH"
  summed: str  # "D": those that its products sum over, in the order of `letters`
  shape: tuple[int, ...]  # of the whole matrix, of which a device may have a part

  @classmethod
  def of(cls, letters: str, summed: str, shape) -> "Place":
    """Returns the place of an array; of a stack (L in front) that of each matrix."""
    stacked = len(shape) - len(letters.replace("L", ""))
    return cls(letters.replace("L", ""), summed, tuple(shape)[stacked:])

  @property
  def columns(self) -> str:
    """The letters that are not summed over."""
    return "".join(name for name in self.letters if name not in self.summed)

  def count(self, letters: str) -> int:
    """Returns the product of the sizes of some of the letters."""
    sizes = dict(zip(self.letters, self.shape, strict=True))
    return math.prod(sizes[name] for name in letters)

  def ordered(self, array):
    """Returns an array, or a stack, with its columns first and the summed dims last."""
    return _transposed(array, self.letters, self.columns + self.summed)

  def restored(self, array):
    """Returns what `ordered` made of an array, in the order of the letters again."""
    return _transposed(array, self.columns + self.summed, self.letters)


class Quantised(linear.Weight):
  """A matrix in few bits; the fields of a kind are its arrays and `place`."""

  kernel: ClassVar[str] = ""  # of lm.nn.narrow, for a few rows; "": there is none

  place: Place

  @classmethod
  def of(cls, array, place: Place) -> "Quantised":
    """Returns the nearest to an array, or to each matrix of a stack."""
    raise NotImplementedError

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array that it stands for, or of the part on this device."""
    lead, sizes = self.scales.shape[: len(self.stack)], self.sizes()
    return (*lead, *(sizes[name] for name in self.place.letters))

  @property
  def stack(self) -> str:
    """The letters in front of those of `place`: "L" for a stack."""
    return "L" * (self.scales.ndim - self.ndim_of_scales())

  def __len__(self):
    return self.shape[0]

  def ndim_of_scales(self) -> int:
    """Returns the number of dimensions of `scales`, but for those of a stack."""
    raise NotImplementedError

  def sizes(self) -> dict[str, int]:
    """Returns the size of each letter of `place`, or of the part on this device."""
    raise NotImplementedError

  def dims(self) -> "Quantised":
    """Returns the letters of each of its arrays in place of them."""
    raise NotImplementedError

  def dense(self):
    """Returns the array that it stands for in float32."""
    raise NotImplementedError

  def product(self, reading: "Reading", x, dtype):
    """Returns the einsum of x with it, for `dot`."""
    raise NotImplementedError

  def narrow(self, reading: "Reading", x, dtype):
    """Returns the product of a few rows by a kernel; None where none does it."""
    if not self.kernel or not reading.is_matrix:
      return None
    x_RD = reading.rows(x.astype(dtype))
    if not narrow.fits(len(x_RD), self.kernel):
      return None
    sizes = self.sizes()
    columns = [sizes[name] for name in self.place.columns]
    y_RF = narrow.product(
      self.kernel, x_RD, math.prod(columns), self.values, self.scales
    )
    return reading.unfolded(y_RF, x.shape, columns)

  def dot(self, equation: str, x, dtype):
    return _dot(equation, x, self, dtype)

  def __array__(self, dtype=None, copy=None):
    # Its arrays may still be on the disk.
    return np.asarray(jax.tree.map(np.asarray, self).dense(), dtype)


@dataclasses.dataclass(frozen=True)
class Reading:
  """An equation of a product with a matrix, in the letters of its ordered form.

  A letter of its columns that the product sums over too, as experts do, is in `out`
  behind all others: the result is summed over these `extra` dimensions at last.
  """

  xs: str
  columns: str
  summed: str
  out: str
  extra: str

  @classmethod
  def of(cls, equation: str, place: Place) -> "Reading":
    """Returns the reading of "BTD,DNH->BTNH" for a matrix with this place."""
    xs, ys, out = re.split(",|->", equation)
    named = dict(zip(place.letters, ys, strict=True))
    columns, summed = (
      "".join(named[name] for name in names) for names in (place.columns, place.summed)
    )
    assert not set(summed) & set(out), f"{equation} does not sum over {summed}"
    extra = "".join(name for name in columns if name not in out)
    return cls(xs, columns, summed, out + extra, extra)

  @property
  def equation(self) -> str:
    """The einsum with the ordered matrix."""
    return f"{self.xs},{self.columns}{self.summed}->{self.out}"

  def beside(self, array, letters: str, out: str):
    """Returns an array with these letters, to be multiplied with one of `out`."""
    sizes = dict(zip(letters, array.shape, strict=True))
    order = "".join(name for name in out if name in sizes)
    array = _transposed(array, letters, order)
    return array.reshape([sizes.get(name, 1) for name in out])

  @property
  def is_matrix(self) -> bool:
    """True if each row of x meets each column, and nothing else is summed."""
    return not self.extra and not set(self.columns) & set(self.xs)

  def rows(self, x):
    """Returns x_RD, D what a column sums over."""
    x = _transposed(x, self.xs, self.row_letters + self.summed)
    return x.reshape(math.prod(x.shape[: len(self.row_letters)]), -1)

  def unfolded(self, y_RF, x_shape, columns):
    """Returns the product from that of `rows`, for columns of these sizes."""
    size_of = dict(zip(self.xs, x_shape, strict=True))
    y = y_RF.reshape(*(size_of[name] for name in self.row_letters), *columns)
    return _transposed(y, self.row_letters + self.columns, self.out)

  @property
  def row_letters(self) -> str:
    """The letters of x that are not summed over."""
    return "".join(name for name in self.xs if name not in self.summed)

  def total(self, y):
    """Returns the sum of a result over the extra dimensions."""
    first = y.ndim - len(self.extra)
    return jnp.sum(y, axis=tuple(range(first, y.ndim))) if self.extra else y


@partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _dot(equation: str, x, w: Quantised, dtype):
  return w.product(Reading.of(equation, w.place), x, dtype)


def _dot_forward(equation, x, w, dtype):
  return _dot(equation, x, w, dtype), (w, jnp.zeros((), x.dtype))


def _dot_backward(equation, dtype, saved, g):
  (w, tag), (xs, ys, out) = saved, re.split(",|->", equation)
  dense = _loops.inside(w, g).dense()
  dx = linear.dot(f"{out},{ys}->{xs}", g, dense, dtype)
  return dx.astype(tag.dtype), None


_dot.defvjp(_dot_forward, _dot_backward)


def kind(name: str) -> type[Quantised]:
  """Returns the class `Matrix` of a kind; Mistake lists the kinds."""
  return lookup.find(__name__, name).Matrix


def name_of(weight: Quantised) -> str:
  """Returns the name of the kind of a weight."""
  return type(weight).__module__.rpartition(".")[2]


def is_quantised(leaf) -> bool:
  """Returns True for a Quantised: the `is_leaf` of a tree with some of them."""
  return isinstance(leaf, Quantised)


def placed(weight: Quantised, mesh) -> Quantised:
  """Returns shapes with their shardings on a mesh, for the arrays of a weight.

  Each dimension is split as that of the matrix it stands for; one that the mesh does
  not divide, such as groups of 32, is whole on each device.
  """

  parts = {letter: math.prod(mesh.shape[a] for a in axes) for letter, axes in RULES}

  def place(leaf, name: str):
    kept = "".join(
      letter if size % parts.get(letter, 1) == 0 else WHOLE
      for letter, size in zip(name, leaf.shape, strict=True)
    )
    where = sharding(mesh, kept)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  return jax.tree.map(place, weight, weight.dims())


def split_dims(weight: Quantised) -> Quantised:
  """Returns `dims` of a weight on a mesh, with L for those that are not split there."""

  def split(leaf, name: str):
    axes = itertools.zip_longest(name, leaf.sharding.spec)
    return "".join(letter if axis else WHOLE for letter, axis in axes)

  return jax.tree.map(split, weight, weight.dims())


def abstract(name: str, letters: str, summed: str, shape) -> Quantised:
  """Returns a weight of the kind `name` whose arrays are shapes; see `Place.of`."""
  place = Place.of(letters, summed, shape)
  make = partial(kind(name).of, place=place)
  return jax.eval_shape(make, jax.ShapeDtypeStruct(tuple(shape), jnp.float32))


def check_take(place: Place):
  """Raises Mistake unless rows can be taken: a table with its vectors summed over."""
  if place.columns != place.letters[:1]:
    raise Mistake(
      f"rows of a matrix {place.letters} that products sum over {place.summed} cannot "
      "be taken; wanted a table"
    )


def _transposed(array, old: str, new: str):
  """Returns an array, or a stack of them, with its letters in another order."""
  lead = array.ndim - len(old)
  order = [*range(lead), *(lead + old.index(name) for name in new)]
  return array if order == sorted(order) else array.transpose(order)
