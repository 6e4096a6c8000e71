"""64-bit words at an address, for numba: as arrays, and read and changed atomically."""

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic

WORDS = 24  # enough of each struct that is read
INT = ir.IntType(64)
ORDER = "seq_cst"


@intrinsic
def pointer(_, address):
  """The address as a pointer."""

  def make(context, builder, signature, args):
    return builder.inttoptr(args[0], voidptr_t)

  return types.voidptr(types.int64), make


@njit(inline="always")
def words(address):
  """The words of a struct at an address."""
  return numba.carray(pointer(address), (WORDS,), np.int64)


def _place(builder, address):
  return builder.inttoptr(address, INT.as_pointer())


@intrinsic
def add(_, address, number):
  """Adds to the word at an address; returns what it was before."""

  def make(context, builder, signature, args):
    return builder.atomic_rmw("add", _place(builder, args[0]), args[1], ORDER)

  return types.int64(types.int64, types.int64), make


@intrinsic
def read(_, address):
  """The word at an address."""

  def make(context, builder, signature, args):
    return builder.load_atomic(_place(builder, args[0]), ORDER, 8)

  return types.int64(types.int64), make


@intrinsic
def write(_, address, number):
  """Sets the word at an address."""

  def make(context, builder, signature, args):
    builder.store_atomic(args[1], _place(builder, args[0]), ORDER, 8)
    return context.get_dummy_value()

  return types.void(types.int64, types.int64), make


@intrinsic
def call(_, function, argument):
  """Calls the C function at an address with a word; returns a word."""

  def make(context, builder, signature, args):
    kind = ir.FunctionType(INT, [INT]).as_pointer()
    return builder.call(builder.inttoptr(args[0], kind), [args[1]])

  return types.int64(types.int64, types.int64), make


@intrinsic
def swap(_, address, old, new):
  """Sets the word at an address if it is `old`; returns True if it was."""

  def make(context, builder, signature, args):
    place = _place(builder, args[0])
    pair = builder.cmpxchg(place, args[1], args[2], ORDER)
    return builder.extract_value(pair, 1)

  return types.boolean(types.int64, types.int64, types.int64), make
