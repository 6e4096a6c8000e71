"""The loops of narrow products, compiled by numba; calls.py hands them to XLA.

A kernel gets the arrays x_RD in float32, the bounds of a part of the columns, weights,
and y_RF, of which it writes these columns; one whose name ends in _rows gets a part of
D instead, and a y of its own. LLVM makes vectors of the innermost loops, for which sums
may be taken in any order (fastmath).
"""

import numpy as np
from numba import njit

from lm.nn.narrow import vectors
from lm.nn.narrow.vectors import GROUP


@njit(inline="always")
def _first(word):
  """The first of the two bfloat16 numbers in 32 bits."""
  return np.uint32(np.uint32(word) << np.uint32(16)).view(np.float32)


@njit(inline="always")
def _second(word):
  return np.uint32(np.uint32(word) & np.uint32(0xFFFF0000)).view(np.float32)


def _loop(widen, dot, arranged):
  """Returns the loop over columns.

  - arranged(x_RD, weights) returns x in the order of the weights, and these
  - dot(n, weights, x) returns the product of column n and one row of it
  - widen(n, weights, wide) writes column n in float32

  R < 4 rows are bound by memory. With more, two columns and four rows share what they
  read.
  """

  @njit(fastmath=True)
  def columns(x_RD, first, end, weights, y_RF):
    x, weights = arranged(x_RD, weights)
    R, size = x.shape
    if R < 4:
      for n in range(first, end):
        for r in range(R):
          y_RF[r, n] = dot(n, weights, x[r])
      return
    v, w = np.empty(size, np.float32), np.empty(size, np.float32)
    for n in range(first, end, 2):
      m = min(n + 1, end - 1)
      widen(n, weights, v)
      widen(m, weights, w)
      for start in range(0, R, 4):
        r = min(start, R - 4)
        x0, x1, x2, x3 = x[r], x[r + 1], x[r + 2], x[r + 3]
        p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = np.float32(0)
        for k in range(size):
          p0 += v[k] * x0[k]
          p1 += v[k] * x1[k]
          p2 += v[k] * x2[k]
          p3 += v[k] * x3[k]
          q0 += w[k] * x0[k]
          q1 += w[k] * x1[k]
          q2 += w[k] * x2[k]
          q3 += w[k] * x3[k]
        y_RF[r, n], y_RF[r + 1, n], y_RF[r + 2, n], y_RF[r + 3, n] = p0, p1, p2, p3
        y_RF[r, m], y_RF[r + 1, m], y_RF[r + 2, m], y_RF[r + 3, m] = q0, q1, q2, q3

  return columns


@njit(inline="always")
def _as_they_are(x_RD, weights):
  return x_RD, weights


@njit(fastmath=True, inline="always")
def _widen_int8(n, weights, wide):
  values, scales = weights
  row, scale = values[n * wide.size : (n + 1) * wide.size], scales[n]
  for k in range(wide.size):
    wide[k] = row[k] * scale


@njit(fastmath=True, inline="always")
def _dot_int8(n, weights, x):
  values, scales = weights
  row, total = values[n * x.size : (n + 1) * x.size], np.float32(0)
  for k in range(x.size):
    total += row[k] * x[k]
  return total * scales[n]


# bfloat16: two numbers are read at once. x is arranged as all first ones, then all
# second ones, and so are the sums of `_bfloat16_rows`.


@njit(fastmath=True, inline="always")
def _firsts_then_seconds(x_RD, weights):
  R, D = x_RD.shape
  x, half = np.empty((R, D), np.float32), D // 2
  for r in range(R):
    for k in range(half):
      x[r, k], x[r, half + k] = x_RD[r, 2 * k], x_RD[r, 2 * k + 1]
  return x, (weights[0].view(np.uint32),)


@njit(fastmath=True, inline="always")
def _widen_bfloat16(n, weights, wide):
  half = wide.size // 2
  row, first, second = weights[0][n * half : (n + 1) * half], wide[:half], wide[half:]
  for k in range(half):
    first[k], second[k] = _first(row[k]), _second(row[k])


@njit(fastmath=True, inline="always")
def _dot_bfloat16(n, weights, x):
  half, total = x.size // 2, np.float32(0)
  row, first, second = weights[0][n * half : (n + 1) * half], x[:half], x[half:]
  for k in range(half):
    total += _first(row[k]) * first[k] + _second(row[k]) * second[k]
  return total


# Groups of 32 numbers have a float16 scale each. LLVM does not see that a scale holds
# for two whole vectors, so that these are written out: lm/nn/narrow/vectors.py.


@njit(fastmath=True, inline="always")
def _filled(x_RD, weights):
  """Returns x with zeros where the last group has no number, and the weights."""
  R, D = x_RD.shape
  if D % GROUP == 0:
    return x_RD, weights
  x = np.zeros((R, (D + GROUP - 1) // GROUP * GROUP), np.float32)
  x[:, :D] = x_RD
  return x, weights


def _of_groups(dot, widen, width):
  """Returns (widen, dot) for `_loop`, of groups in `width` bytes."""

  @njit(inline="always")
  def addresses(n, weights, groups):
    values, scales = weights
    first = n * groups
    return values[first * width :].ctypes.data, scales[first:].ctypes.data

  @njit(inline="always")
  def widen_column(n, weights, wide):
    groups = wide.size // GROUP
    values, scales = addresses(n, weights, groups)
    widen(values, scales, wide.ctypes.data, groups)

  @njit(inline="always")
  def dot_column(n, weights, x):
    groups = x.size // GROUP
    values, scales = addresses(n, weights, groups)
    return dot(values, scales, x.ctypes.data, groups)

  return widen_column, dot_column


@njit(fastmath=True)
def _bfloat16_rows(x_RD, first, end, weights, y_RF):
  """As `_loop`, of weights (D, F) of which a row lies side by side: sums part of D.

  One row after the other: several at a time are no single stream for the processor,
  which then reads half as fast.
  """
  R, F = y_RF.shape
  words, half = weights[0].view(np.uint32), F // 2
  sums = np.zeros((R, 2, half), np.float32)
  for k in range(first, end):
    row = words[k * half : (k + 1) * half]
    for r in range(R):
      y, z, x = sums[r, 0], sums[r, 1], x_RD[r, k]
      for n in range(half):
        y[n] += _first(row[n]) * x
        z[n] += _second(row[n]) * x
  for r in range(R):
    for n in range(half):
      y_RF[r, 2 * n], y_RF[r, 2 * n + 1] = sums[r, 0, n], sums[r, 1, n]


_int8_groups = _of_groups(vectors.dot_int8, vectors.widen_int8, GROUP)
_int4 = _of_groups(vectors.dot_int4, vectors.widen_int4, GROUP // 2)
# Name: (the loop, the types of its weights, in which bits are whole numbers).
KERNELS = {
  "int8": (_loop(_widen_int8, _dot_int8, _as_they_are), (np.int8, np.float32)),
  "int8_groups": (_loop(*_int8_groups, _filled), (np.int8, np.uint16)),
  "int4": (_loop(*_int4, _filled), (np.uint8, np.uint16)),
  "bfloat16": (
    _loop(_widen_bfloat16, _dot_bfloat16, _firsts_then_seconds),
    (np.uint16,),
  ),
  "bfloat16_rows": (_bfloat16_rows, (np.uint16,)),
}
