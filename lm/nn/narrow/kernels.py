"""The loops of narrow products, compiled by numba for XLA's foreign-function interface.

A kernel gets the arrays x_RD in float32, the bounds of its columns, and weights; it
writes y of these columns. XLA passes the address of a XLA_FFI_CallFrame, whose structs
(jaxlib/include/xla/ffi/api/c_api.h) are read as 64-bit words here. LLVM makes vectors
of the innermost loops, for which sums may be taken in any order (fastmath).
"""

import functools
import re
from pathlib import Path

import jax
import numba
import numpy as np
from numba import njit, types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic

from lm.platform import NARROW

WORDS = 24  # enough of each struct
GROUP = 32  # numbers of int4 that share a scale


@intrinsic
def _pointer(_, address):
  def make(context, builder, signature, args):
    return builder.inttoptr(args[0], voidptr_t)

  return types.voidptr(types.int64), make


@njit(inline="always")
def _words(address):
  return numba.carray(_pointer(address), (WORDS,), np.int64)


@njit(inline="always")
def _vector(buffer, dtype):
  """The array of a XLA_FFI_Buffer as a vector of all its numbers."""
  sizes = _words(buffer[5])
  count = 1
  for dim in range(buffer[4]):
    count *= sizes[dim]
  return numba.carray(_pointer(buffer[3]), (count,), dtype)


@njit(inline="always")
def _bfloat16(bits):
  return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@njit(inline="always")
def _float16(bits):
  """The number in float32; no scale is infinite."""
  word = np.uint32(bits)
  mantissa = np.float32(np.int32(word & np.uint32(1023)))
  small = mantissa * np.float32(2**-24)  # with an exponent of 0
  whole = np.uint32((word & np.uint32(0x7FFF)) << np.uint32(13))
  whole = np.uint32(whole + np.uint32(112 << 23)).view(np.float32)
  size = small if (word & np.uint32(0x7C00)) == 0 else whole
  return -size if (word & np.uint32(0x8000)) != 0 else size


def _loop(widen, dot, arranged):
  """Returns the loop over columns.

  - arranged(x_RD, weights, bounds) returns x in the order of the weights, and these
  - dot(n, weights, x, buffer) returns the product of column n and one row of it
  - widen(n, weights, wide, buffer) writes column n in float32

  R < 4 rows are bound by memory. With more, two columns and four rows share what they
  read.
  """

  @njit(fastmath=True)
  def columns(x_RD, bounds, weights, y_RF):
    x, weights = arranged(x_RD, weights, bounds)
    R, size = x.shape
    first, end = bounds[0], bounds[1]
    wide, buffer = np.empty((2, size), np.float32), np.empty(size, np.float32)
    v, w = wide[0], wide[1]
    if R < 4:
      for n in range(first, end):
        for r in range(R):
          y_RF[r, n - first] = dot(n, weights, x[r], buffer)
      return
    for n in range(first, end, 2):
      m = min(n + 1, end - 1)
      widen(n, weights, v, buffer)
      widen(m, weights, w, buffer)
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
def _as_they_are(x_RD, weights, bounds):
  return x_RD, weights


@njit(fastmath=True, inline="always")
def _widen_int8(n, weights, wide, buffer):
  values, scales = weights
  row, scale = values[n * wide.size : (n + 1) * wide.size], scales[n]
  for k in range(wide.size):
    wide[k] = row[k] * scale


@njit(fastmath=True, inline="always")
def _dot_int8(n, weights, x, buffer):
  values, scales = weights
  row, total = values[n * x.size : (n + 1) * x.size], np.float32(0)
  for k in range(x.size):
    total += row[k] * x[k]
  return total * scales[n]


@njit(fastmath=True, inline="always")
def _widen_bfloat16(n, weights, wide, buffer):
  row = weights[0][n * wide.size : (n + 1) * wide.size]
  for k in range(wide.size):
    wide[k] = _bfloat16(row[k])


@njit(fastmath=True, inline="always")
def _dot_bfloat16(n, weights, x, buffer):
  row, total = weights[0][n * x.size : (n + 1) * x.size], np.float32(0)
  for k in range(x.size):
    total += _bfloat16(row[k]) * x[k]
  return total


# int4: groups of 32 in 16 bytes, number j in the low half of byte j, number j + 16 in
# the high one. Columns and x are arranged as all low numbers, then all high ones.


@njit(fastmath=True, inline="always")
def _low_then_high(x_RD, weights, bounds):
  """Returns x in that order, and the weights with scales in float32."""
  R, D = x_RD.shape
  values, narrow = weights
  groups = (D + GROUP - 1) // GROUP
  scales, half = np.empty(narrow.size, np.float32), groups * 16
  for g in range(bounds[0] * groups, bounds[1] * groups):
    scales[g] = _float16(narrow[g])
  x = np.zeros((R, 2 * half), np.float32)
  for r in range(R):
    for k in range(D):
      group, place = k // GROUP, k % GROUP
      x[r, group * 16 + place % 16 + half * (place // 16)] = x_RD[r, k]
  return x, (values, scales)


@njit(fastmath=True, inline="always")
def _spread(n, scales, half, buffer):
  """Writes the scale of each byte of a column into a buffer."""
  for g in range(half // 16):
    buffer[g * 16 : (g + 1) * 16] = scales[n * (half // 16) + g]


@njit(fastmath=True, inline="always")
def _widen_int4(n, weights, wide, buffer):
  values, scales = weights
  half = wide.size // 2
  _spread(n, scales, half, buffer)
  row, low, high = values[n * half : (n + 1) * half], wide[:half], wide[half:]
  for k in range(half):
    byte = row[k]
    low[k] = (np.float32(np.int32(byte & 15)) - np.float32(8)) * buffer[k]
    high[k] = (np.float32(np.int32(byte >> 4)) - np.float32(8)) * buffer[k]


@njit(fastmath=True, inline="always")
def _dot_int4(n, weights, x, buffer):
  values, scales = weights
  half = x.size // 2
  _spread(n, scales, half, buffer)
  row, low, high = values[n * half : (n + 1) * half], x[:half], x[half:]
  total = np.float32(0)
  for k in range(half):
    byte = row[k]
    a = (np.float32(np.int32(byte & 15)) - np.float32(8)) * low[k]
    b = (np.float32(np.int32(byte >> 4)) - np.float32(8)) * high[k]
    total += (a + b) * buffer[k]
  return total


@njit(fastmath=True)
def _bfloat16_rows(x_RD, bounds, weights, y_RF):
  """As `_loop`, of weights (D, F), of which a row's numbers lie side by side."""
  R, D = x_RD.shape
  first, end = bounds[0], bounds[1]
  values, F = weights[0], weights[0].size // D
  y_RF[:] = 0
  for k in range(0, D, 4):
    k1, k2, k3 = min(k + 1, D - 1), min(k + 2, D - 1), min(k + 3, D - 1)
    a = values[k * F + first : k * F + end]
    b = values[k1 * F + first : k1 * F + end]
    c = values[k2 * F + first : k2 * F + end]
    d = values[k3 * F + first : k3 * F + end]
    for r in range(R):
      y = y_RF[r]
      x0 = x_RD[r, k]
      x1 = x_RD[r, k1] if k + 1 < D else np.float32(0)
      x2 = x_RD[r, k2] if k + 2 < D else np.float32(0)
      x3 = x_RD[r, k3] if k + 3 < D else np.float32(0)
      for n in range(y.size):
        y[n] += (
          _bfloat16(a[n]) * x0
          + _bfloat16(b[n]) * x1
          + _bfloat16(c[n]) * x2
          + _bfloat16(d[n]) * x3
        )


# Name: (the loop, the types of its weights, in which bits are whole numbers).
KERNELS = {
  "int8": (_loop(_widen_int8, _dot_int8, _as_they_are), (np.int8, np.float32)),
  "int4": (_loop(_widen_int4, _dot_int4, _low_then_high), (np.uint8, np.uint16)),
  "bfloat16": (_loop(_widen_bfloat16, _dot_bfloat16, _as_they_are), (np.uint16,)),
  "bfloat16_rows": (_bfloat16_rows, (np.uint16,)),
}


def _handler(loop, dtypes):
  """Returns the C function that XLA calls, with the address of a call frame."""
  version, count = _version(), len(dtypes)
  first, last = dtypes[0], dtypes[-1]

  def handle(frame):
    call = _words(frame)
    if call[1] and _words(call[1])[1] & 0xFFFFFFFF == 1:  # a request of the version
      _words(_words(call[1])[3])[3] = version
      return 0
    args, results = _words(call[9]), _words(call[14])
    x, y = _words(args[0]), _words(results[0])
    x_RD = _vector(x, np.float32).reshape(_words(x[5])[0], _words(x[5])[1])
    y_RF = _vector(y, np.float32).reshape(_words(y[5])[0], _words(y[5])[1])
    bounds = _vector(_words(args[1]), np.int32)
    if count == 1:
      weights = (_vector(_words(args[2]), first),)
    else:
      weights = (_vector(_words(args[2]), first), _vector(_words(args[3]), last))
    loop(x_RD, bounds, weights, y_RF)
    return 0

  return numba.cfunc(types.int64(types.int64))(handle)


def _version() -> int:
  """Returns the version of the interface that jaxlib has, as its struct holds it."""
  header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
  text = header.read_text()
  major, minor = (
    int(re.search(rf"XLA_FFI_API_{part} (\d+)", text)[1]) for part in ("MAJOR", "MINOR")
  )
  return major | minor << 32


@functools.cache
def registered(name: str) -> str:
  """Returns the name by which XLA calls a kernel, compiled when it is first wanted."""
  handler = _handler(*KERNELS[name])
  _handlers.append(handler)
  target = f"{NARROW}{name}"
  capsule = jax.ffi.pycapsule(handler.address)
  jax.ffi.register_ffi_target(target, capsule, platform="cpu")
  return target


_handlers = []  # which live as long as the process
