"""Products of a few rows with narrow weights at the speed of memory, on one CPU.

XLA:CPU widens int8, int4 and bfloat16 weights into memory for every product. The loops
of kernels.py, compiled by numba and called by XLA, read them as they are. They are
taken for few rows (ROWS), where numba is installed; everywhere else the caller's plain
JAX gives the same numbers to rounding.

XLA runs one call after the other; the threads of one share its parts, see calls.py.
"""

import importlib.util

import jax
import jax.numpy as jnp

from lm.nn import cpu

ROWS = {"bfloat16": 3}  # of a kind, beyond which XLA's own products are as fast
ROWS |= {"int8": 128, "int8_groups": 128, "int4": 128}
PART = 2**16  # least bytes of a part: less is done before another core has begun
MOST, ROW_PARTS = 64, 4  # parts of a product; the latter are added up


def fits(rows: int, kind: str) -> bool:
  """Returns True if a product of so many rows is taken here; see ROWS for the kinds."""
  return 0 < rows <= ROWS[kind] and cpu.active() and is_installed()


def is_installed() -> bool:
  """Returns True if numba, which is optional, can be imported."""
  return importlib.util.find_spec("numba") is not None


def product(name: str, x_RD, F: int, *weights):
  """Returns y_RF in float32: x_RD times weights of F columns, by a kernel's name.

  See `lm.nn.narrow.kernels.KERNELS` for the names, and the weights of each.
  """
  from lm.nn.narrow import calls

  target, x_RD = calls.registered(name), x_RD.astype(jnp.float32)
  by_rows, (R, _) = name.endswith("_rows"), x_RD.shape  # each part sums some of D
  most = ROW_PARTS if by_rows else MOST
  parts = max(1, min(most, weights[0].nbytes // PART))
  shape = (parts, R, F) if by_rows else (R, F)
  shape = jax.ShapeDtypeStruct(shape, jnp.float32)
  call = jax.ffi.ffi_call(target, shape, vmap_method="sequential")
  y = call(x_RD, jnp.array([parts], jnp.int32), *weights)
  return jnp.sum(y, axis=0) if by_rows else y
