"""Products of a few rows with narrow weights at the speed of memory, on one CPU.

XLA:CPU widens int8, int4 and bfloat16 weights into memory for every product. The loops
of kernels.py, compiled by numba and called by XLA, read them as they are. They are
taken for up to ROWS rows, where numba is installed; everywhere else the caller's plain
JAX gives the same numbers to rounding. A prompt, or a large batch, is faster in XLA.

Each core computes a part of the columns: XLA runs independent calls side by side.
"""

import functools
import importlib.util
import itertools
import os

import jax
import jax.numpy as jnp

from lm.nn import cpu

ROWS = 15  # XLA's products of more are as fast
PART = 2**16  # least bytes of weights a core: less is done before another has begun


def fits(rows: int) -> bool:
  """Returns True if a product of so many rows is taken here."""
  return 0 < rows <= ROWS and cpu.active() and is_installed()


def is_installed() -> bool:
  """Returns True if numba, which is optional, can be imported."""
  return importlib.util.find_spec("numba") is not None


def product(name: str, x_RD, F: int, *weights):
  """Returns y_RF in float32: x_RD times weights of F columns, by a kernel's name.

  See `lm.nn.narrow.kernels.KERNELS` for the names, and the weights of each.
  """
  from lm.nn.narrow import calls

  target, x_RD = calls.registered(name), x_RD.astype(jnp.float32)
  R, D = x_RD.shape
  by_rows = name.endswith("_rows")  # each core sums a part of D, for all columns
  parts = []
  for first, end in itertools.pairwise(_cuts(D if by_rows else F, weights[0].nbytes)):
    shape = jax.ShapeDtypeStruct((R, F if by_rows else end - first), jnp.float32)
    call = jax.ffi.ffi_call(target, shape, vmap_method="sequential")
    parts.append(call(x_RD, jnp.array([first, end], jnp.int32), *weights))
  if by_rows:
    return sum(parts[1:], parts[0])
  return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _cuts(size: int, num_bytes: int) -> list[int]:
  """Returns the bounds of the parts of `size`, in whole multiples of 16."""
  parts = max(1, min(_cores(), num_bytes // PART))
  return sorted({size * part // parts // 16 * 16 for part in range(parts)} | {size})


@functools.cache
def _cores() -> int:
  affinity = getattr(os, "sched_getaffinity", None)
  return len(affinity(0)) if affinity else os.cpu_count() or 1
