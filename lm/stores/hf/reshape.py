"""Conversions of a tensor of Hugging Face to one or several parameters, and back.

Tensors of checkpoints are mostly (out, in) matrices of PyTorch; our parameters have a
dimension for each letter, those that are summed over in front, and a vocabulary padded
to a multiple of 128. All shapes are those of one layer. Results are views where that is
possible.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Reshape(NamedTuple):
  """Three functions; a list has an item for each of our parameters in the row.

  Where the checkpoint has no such tensor, `back` is None, and `shape` too unless the
  parameters are `unused`.
  """

  shape: Callable | None  # (our shapes) -> the tensor's shape
  into: Callable  # (the tensor, our shapes) -> our arrays
  back: Callable | None  # (our arrays) -> the tensor


def _single(shape, into, back) -> Reshape:
  """Returns the Reshape of a tensor that is one parameter of ours."""
  return Reshape(
    lambda shapes: shape(shapes[0]),
    lambda x, shapes: [into(x, shapes[0])],
    lambda arrays: back(arrays[0]),
  )


def _matrix(shape, inputs: int) -> tuple[int, int]:
  return math.prod(shape[:inputs]), math.prod(shape[inputs:])


# The same shape.
same = _single(lambda shape: shape, lambda x, _: x, lambda x: x)

# A vector, whatever dimensions ours has.
flat = _single(
  lambda shape: (math.prod(shape),),
  lambda x, shape: x.reshape(shape),
  lambda x: x.reshape(-1),
)


def matrix(inputs: int = 1) -> Reshape:
  """A tensor (in, out); the first `inputs` dimensions of ours are summed over."""
  return _single(
    lambda shape: _matrix(shape, inputs),
    lambda x, shape: x.reshape(shape),
    lambda x: x.reshape(_matrix(x.shape, inputs)),
  )


def transposed(inputs: int = 1) -> Reshape:
  """A tensor (out, in); the first `inputs` dimensions of ours are summed over."""
  return _single(
    lambda shape: _matrix(shape, inputs)[::-1],
    lambda x, shape: x.T.reshape(shape),
    lambda x: x.reshape(_matrix(x.shape, inputs)).T,
  )


def rows(vocab: int) -> Reshape:
  """A table or vector over a vocabulary, which ours pads with zeros."""
  return _single(
    lambda shape: (vocab, *shape[1:]),
    lambda x, shape: _padded(x, shape[0]),
    lambda x: x[:vocab],
  )


def columns(vocab: int) -> Reshape:
  """A tensor (vocabulary, in); ours is (in, padded vocabulary)."""
  return _single(
    lambda shape: (vocab, shape[0]),
    lambda x, shape: _padded(x, shape[1]).T,
    lambda x: x.T[:vocab],
  )


def _padded(x, size: int):
  if size == x.shape[0]:
    return x
  return np.pad(x, ((0, size - x.shape[0]), *((0, 0) for _ in x.shape[1:])))


def concatenated(axis: int, *parts: Reshape) -> Reshape:
  """A tensor that concatenates several of our parameters along `axis`."""

  def shapes_of(shapes):
    return [part.shape([shape]) for part, shape in zip(parts, shapes, strict=True)]

  def shape(shapes):
    total = list(shapes_of(shapes)[0])
    total[axis] = sum(part_shape[axis] for part_shape in shapes_of(shapes))
    return tuple(total)

  def into(x, shapes):
    ends = np.cumsum([part_shape[axis] for part_shape in shapes_of(shapes)])[:-1]
    pieces = zip(parts, np.split(x, ends, axis), shapes, strict=True)
    return [part.into(piece, [shape])[0] for part, piece, shape in pieces]

  def back(arrays):
    pieces = [part.back([x]) for part, x in zip(parts, arrays, strict=True)]
    return np.concatenate(pieces, axis)

  return Reshape(shape, into, back)


def by_head(count: int) -> Reshape:
  """A tensor (out, in) that concatenates `count` of our parameters in every head."""

  def shape(shapes):
    *inputs, N, H = shapes[0]
    return (N * count * H, *inputs)

  def into(x, shapes):
    *inputs, N, H = shapes[0]
    heads = x.reshape(N, count, H, *inputs)
    return [np.moveaxis(heads[:, i], (0, 1), (-2, -1)) for i in range(count)]

  def back(arrays):
    heads = np.stack([np.moveaxis(x, (-2, -1), (0, 1)) for x in arrays], axis=1)
    return heads.reshape(-1, *heads.shape[3:])

  return Reshape(shape, into, back)


# A depthwise convolution along the row: the tensor is (channel, 1, offset), ours has
# the offset in front.
taps = _single(
  lambda shape: (math.prod(shape[1:]), 1, shape[0]),
  lambda x, shape: x[:, 0].T.reshape(shape),
  lambda x: x.reshape(x.shape[0], -1).T[:, None],
)


def bias_row(vocab: int) -> Reshape:
  """A row (1, vocabulary), of a vector that ours pads with zeros."""
  return _single(
    lambda shape: (1, vocab),
    lambda x, shape: _padded(x[0], shape[0]),
    lambda x: x[None, :vocab],
  )


def derived(shape: tuple[int, ...], make) -> Reshape:
  """A tensor that follows from the config: `make()`, and no parameter of ours."""
  return Reshape(lambda shapes: shape, lambda x, shapes: [], lambda arrays: make())


def constant(value: float) -> Reshape:
  """No tensor: import fills ours with `value`; export fails if it has changed."""
  return Reshape(None, lambda x, shapes: [np.float32(value)] * len(shapes), None)


def unused(value: float) -> Reshape:
  """No tensor, of a part that the checkpoint lacks: ours starts as `value` and is not
  exported, whatever it has become."""
  return constant(value)._replace(shape=lambda shapes: None)
