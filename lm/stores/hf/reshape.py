"""How a tensor of theirs becomes one or several of ours, and back: named pairs.

Theirs are mostly (out, in) matrices of PyTorch; ours have a dimension for each letter,
what is summed over in front, and a vocabulary padded to a multiple of 128. All shapes
are those of one layer. Where it can be, what comes out is a view.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Reshape(NamedTuple):
  shape: Callable  # (our shapes) -> their shape
  into: Callable  # (their array, our shapes) -> our arrays
  back: Callable  # (our arrays) -> their array


def _single(shape, into, back) -> Reshape:
  """A pair for one array of ours."""
  return Reshape(
    lambda shapes: shape(shapes[0]),
    lambda x, shapes: [into(x, shapes[0])],
    lambda arrays: back(arrays[0]),
  )


def _matrix(shape, inputs: int) -> tuple[int, int]:
  return math.prod(shape[:inputs]), math.prod(shape[inputs:])


same = _single(lambda shape: shape, lambda x, _: x, lambda x: x)

# A vector of theirs, whatever we divide it into.
flat = _single(
  lambda shape: (math.prod(shape),),
  lambda x, shape: x.reshape(shape),
  lambda x: x.reshape(-1),
)


def matrix(inputs: int = 1) -> Reshape:
  """Theirs is (in, out); the first `inputs` dimensions of ours are summed over."""
  return _single(
    lambda shape: _matrix(shape, inputs),
    lambda x, shape: x.reshape(shape),
    lambda x: x.reshape(_matrix(x.shape, inputs)),
  )


def turned(inputs: int = 1) -> Reshape:
  """Theirs is (out, in); the first `inputs` dimensions of ours are summed over."""
  return _single(
    lambda shape: _matrix(shape, inputs)[::-1],
    lambda x, shape: x.T.reshape(shape),
    lambda x: x.reshape(_matrix(x.shape, inputs)).T,
  )


def rows(vocab: int) -> Reshape:
  """A table or vector over a vocabulary, which we pad with zeros."""
  return _single(
    lambda shape: (vocab, *shape[1:]),
    lambda x, shape: _padded(x, shape[0]),
    lambda x: x[:vocab],
  )


def columns(vocab: int) -> Reshape:
  """Theirs is (vocabulary, in), ours (in, padded vocabulary)."""
  return _single(
    lambda shape: (vocab, shape[0]),
    lambda x, shape: _padded(x, shape[1]).T,
    lambda x: x.T[:vocab],
  )


def _padded(x, size: int):
  if size == x.shape[0]:
    return x
  return np.pad(x, ((0, size - x.shape[0]), *((0, 0) for _ in x.shape[1:])))


def beside(axis: int, *parts: Reshape) -> Reshape:
  """Several of ours lie side by side, along `axis`, in one of theirs."""

  def shapes_of(shapes):
    return [part.shape([shape]) for part, shape in zip(parts, shapes, strict=True)]

  def shape(shapes):
    found = list(shapes_of(shapes)[0])
    found[axis] = sum(each[axis] for each in shapes_of(shapes))
    return tuple(found)

  def into(x, shapes):
    cuts = np.cumsum([each[axis] for each in shapes_of(shapes)])[:-1]
    pieces = zip(parts, np.split(x, cuts, axis), shapes, strict=True)
    return [part.into(piece, [shape])[0] for part, piece, shape in pieces]

  def back(arrays):
    found = [part.back([x]) for part, x in zip(parts, arrays, strict=True)]
    return np.concatenate(found, axis)

  return Reshape(shape, into, back)


def by_head(x: int) -> Reshape:
  """So many of ours lie side by side in every head of one of theirs, (out, in)."""

  def shape(shapes):
    *inputs, N, H = shapes[0]
    return (N * x * H, *inputs)

  def into(array, shapes):
    *inputs, N, H = shapes[0]
    heads = array.reshape(N, x, H, *inputs)
    return [np.moveaxis(heads[:, i], (0, 1), (-2, -1)) for i in range(x)]

  def back(arrays):
    heads = np.stack([np.moveaxis(a, (-2, -1), (0, 1)) for a in arrays], axis=1)
    return heads.reshape(-1, *heads.shape[3:])

  return Reshape(shape, into, back)


# A convolution along the row, of every channel alone: theirs is (channel, 1, W).
taps = _single(
  lambda shape: (math.prod(shape[1:]), 1, shape[0]),
  lambda x, shape: x[:, 0].T.reshape(shape),
  lambda x: x.reshape(x.shape[0], -1).T[:, None],
)


def constant(value: float) -> Reshape:
  """Theirs has no such tensor: ours is this everywhere, or could not go back."""
  return Reshape(None, lambda x, shapes: [np.float32(value)] * len(shapes), None)


def unused(value: float) -> Reshape:
  """Theirs has no such part (a readout, say): ours begins as this, and stays behind."""
  keep = constant(value)
  return keep._replace(shape=lambda shapes: None)
