"""Vectors of 16 numbers for the kernels, in LLVM's own instructions.

`dot_int8` and `dot_int4` sum a column in groups of 32 with a row x; `widen_int8` and
`widen_int4` write the column to x. They take the addresses of codes, of float16 scales
and of float32 x, and the number of groups. A vector of 16 sums takes all groups, each
scaled once, and is added up at the end.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

GROUP = 32  # numbers that share a scale
WIDTH = 16  # numbers of a vector
BYTE, WORD = ir.IntType(8), ir.IntType(32)
CODES = ir.VectorType(BYTE, WIDTH)
FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
FAST = ("fast",)


@intrinsic
def float16(_, bits):
  """The number of 16 bits in float32: one instruction where the CPU has it."""

  def make(context, builder, signature, args):
    return _half(builder, args[0])

  return types.float32(types.uint16), make


def _half(builder, bits):
  return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())


def _load(builder, address, offset, kind, size: int):
  """Returns what lies `offset` times `size` bytes behind an address, unaligned."""
  place = builder.add(address, builder.mul(offset, offset.type(size)))
  return builder.load(builder.inttoptr(place, kind.as_pointer()), align=1)


def _filled(builder, number, kind):
  """Returns a vector with the same number everywhere."""
  one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, WORD(0))
  zeros = ir.Constant(ir.VectorType(WORD, WIDTH), [0] * WIDTH)
  return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _floats(builder, codes):
  return builder.sitofp(builder.sext(codes, ir.VectorType(WORD, WIDTH)), FLOATS)


def _halves_int8(builder, values, group):
  """Returns the 32 numbers of a group as two vectors."""
  first = builder.shl(group, group.type(1))
  halves = first, builder.add(first, group.type(1))
  return [_floats(builder, _load(builder, values, k, CODES, WIDTH)) for k in halves]


def _halves_int4(builder, values, group):
  both = _load(builder, values, group, CODES, WIDTH)
  constant = lambda number: ir.Constant(CODES, [number] * WIDTH)
  low, high = builder.and_(both, constant(15)), builder.lshr(both, constant(4))
  return [_floats(builder, builder.sub(x, constant(8))) for x in (low, high)]


def _scaled(halves, builder, values, scales, group):
  """Returns (the scale of a group in a whole vector, its numbers without it)."""
  bits = _load(builder, scales, group, ir.IntType(16), 2)
  return _filled(builder, _half(builder, bits), FLOATS), halves(builder, values, group)


def _places(builder, x, group):
  """Returns where the two vectors of a group lie behind the address of float32."""
  size = group.type(4 * GROUP)
  first = builder.add(x, builder.mul(group, size))
  second = builder.add(first, group.type(4 * WIDTH))
  return [builder.inttoptr(place, FLOATS.as_pointer()) for place in (first, second)]


def _dot(halves):
  """Returns the intrinsic that sums a column whose groups `halves` reads."""

  @intrinsic
  def dot(_, values, scales, x, groups):
    def make(context, builder, signature, args):
      values, scales, x, groups = args
      total = cgutils.alloca_once_value(builder, ir.Constant(FLOATS, [0.0] * WIDTH))
      with cgutils.for_range(builder, groups) as loop:
        scale, numbers = _scaled(halves, builder, values, scales, loop.index)
        places = _places(builder, x, loop.index)
        low, high = (
          builder.fmul(one, builder.load(place, align=4), FAST)
          for one, place in zip(numbers, places, strict=True)
        )
        part = builder.fmul(builder.fadd(low, high, FAST), scale, FAST)
        builder.store(builder.fadd(builder.load(total), part, FAST), total)
      kinds = [ir.FloatType(), FLOATS]
      name = f"llvm.vector.reduce.fadd.v{WIDTH}f32"
      add = builder.module.declare_intrinsic(
        name, fnty=ir.FunctionType(ir.FloatType(), kinds)
      )
      start = ir.FloatType()(0.0)
      return builder.call(add, [start, builder.load(total)], fastmath=FAST)

    return types.float32(*[types.int64] * 4), make

  return dot


def _widen(halves):
  """Returns the intrinsic that writes such a column in float32 to the address `x`."""

  @intrinsic
  def widen(_, values, scales, x, groups):
    def make(context, builder, signature, args):
      values, scales, x, groups = args
      with cgutils.for_range(builder, groups) as loop:
        scale, numbers = _scaled(halves, builder, values, scales, loop.index)
        places = _places(builder, x, loop.index)
        for one, place in zip(numbers, places, strict=True):
          builder.store(builder.fmul(one, scale, FAST), place, align=4)
      return context.get_dummy_value()

    return types.void(*[types.int64] * 4), make

  return widen


dot_int8, dot_int4 = _dot(_halves_int8), _dot(_halves_int4)
widen_int8, widen_int4 = _widen(_halves_int8), _widen(_halves_int4)
