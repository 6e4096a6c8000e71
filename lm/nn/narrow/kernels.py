"""The loops of narrow products, compiled by numba; calls.py hands them to XLA.

A kernel gets the arrays x_RD in float32, the bounds of its columns, and weights; it
writes y of these columns. LLVM makes vectors of the innermost loops, for which sums may
be taken in any order (fastmath).
"""

import numpy as np
from numba import njit

from lm.nn.narrow.vectors import GROUP, dot_int4, dot_int8, float16


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
  def columns(x_RD, bounds, weights, y_RF):
    x, weights = arranged(x_RD, weights)
    R, size = x.shape
    first, end = bounds[0], bounds[1]
    v, w = np.empty(size, np.float32), np.empty(size, np.float32)
    if R < 4:
      for n in range(first, end):
        for r in range(R):
          y_RF[r, n - first] = dot(n, weights, x[r])
      return
    for n in range(first, end, 2):
      m = min(n + 1, end - 1)
      widen(n, weights, v)
      widen(m, weights, w)
      i, j = n - first, m - first
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
        y_RF[r, i], y_RF[r + 1, i], y_RF[r + 2, i], y_RF[r + 3, i] = p0, p1, p2, p3
        y_RF[r, j], y_RF[r + 1, j], y_RF[r + 2, j], y_RF[r + 3, j] = q0, q1, q2, q3

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


@njit(fastmath=True, inline="always")
def _widen_int8_groups(n, weights, wide):
  values, scales = weights
  groups = wide.size // GROUP
  for g in range(n * groups, (n + 1) * groups):
    scale, start = float16(scales[g]), (g - n * groups) * GROUP
    for k in range(GROUP):
      wide[start + k] = values[g * GROUP + k] * scale


@njit(fastmath=True, inline="always")
def _dot_int8_groups(n, weights, x):
  values, scales = weights
  groups = x.size // GROUP
  starts = values[n * x.size :].ctypes.data, scales[n * groups :].ctypes.data
  return dot_int8(starts[0], starts[1], x.ctypes.data, groups)


# int4: number j of a group is the low half of byte j, number j + 16 its high half.


@njit(fastmath=True, inline="always")
def _widen_int4(n, weights, wide):
  values, scales = weights
  groups, half = wide.size // GROUP, GROUP // 2
  for g in range(n * groups, (n + 1) * groups):
    scale, start = float16(scales[g]), (g - n * groups) * GROUP
    for k in range(half):
      byte = values[g * half + k]
      wide[start + k] = (np.float32(np.int32(byte & 15)) - np.float32(8)) * scale
      wide[start + half + k] = (np.float32(np.int32(byte >> 4)) - np.float32(8)) * scale


@njit(fastmath=True, inline="always")
def _dot_int4(n, weights, x):
  values, scales = weights
  groups = x.size // GROUP
  starts = values[n * x.size // 2 :].ctypes.data, scales[n * groups :].ctypes.data
  return dot_int4(starts[0], starts[1], x.ctypes.data, groups)


@njit(fastmath=True)
def _bfloat16_rows(x_RD, bounds, weights, y_RF):
  """As `_loop`, of weights (D, F) of which a row lies side by side: sums part of D."""
  R, F = y_RF.shape
  first, end, words, half = bounds[0], bounds[1], weights[0].view(np.uint32), F // 2
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


# Name: (the loop, the types of its weights, in which bits are whole numbers).
KERNELS = {
  "int8": (_loop(_widen_int8, _dot_int8, _as_they_are), (np.int8, np.float32)),
  "int8_groups": (
    _loop(_widen_int8_groups, _dot_int8_groups, _filled),
    (np.int8, np.uint16),
  ),
  "int4": (_loop(_widen_int4, _dot_int4, _filled), (np.uint8, np.uint16)),
  "bfloat16": (
    _loop(_widen_bfloat16, _dot_bfloat16, _firsts_then_seconds),
    (np.uint16,),
  ),
  "bfloat16_rows": (_bfloat16_rows, (np.uint16,)),
}
