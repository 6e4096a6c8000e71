"""Calls of a kernel by XLA's foreign-function interface, shared among its threads.

XLA passes the address of a XLA_FFI_CallFrame, whose structs
(jaxlib/include/xla/ffi/api/c_api.h) are read as 64-bit words here.

A product is a job of some parts. The thread that XLA calls offers it to XLA's other
threads and begins; whoever comes takes the next part, until none is left. So it never
waits for a thread that has not begun. A thread that comes too late finds no part, or
one of the next job, which is as good: the words of a job are written before its parts.
"""

import functools
import os
import re
from pathlib import Path

import jax
import numba
import numpy as np
from numba import njit, types

from lm.nn.narrow.kernels import KERNELS
from lm.nn.narrow.vectors import GROUP
from lm.nn.narrow.words import add, call, pointer, read, swap, words, write
from lm.platform import NARROW

JOBS = 8  # at a time, of one kernel; further ones are not shared
SIZE = 64  # words of a job, a multiple of a cache line
# Words of a job: its lock, the parts that nobody has begun, those that are done, then
# the number of parts, what they divide, and each array's address and sizes.
LOCK, LEFT, DONE = 0, 8, 16  # in lines of their own
PARTS, DIVIDED, X, R, D, Y, F, FIRST, LAST = range(24, 33)


def _program(loop, dtypes, by_rows: bool):
  """Returns the C functions of a kernel: for a call frame, and for an offered job."""
  version, helpers = _version(), _cores() - 1
  jobs = np.zeros((JOBS, SIZE), np.int64)
  _kept.append(jobs)
  first_job, work = jobs.ctypes.data, _worker(loop, dtypes, by_rows)
  describe, offer = _describer(len(dtypes), by_rows), _offerer()

  @numba.cfunc(types.void(types.int64))
  def help_with(job):
    work(job)

  help_address = help_with.address

  @numba.cfunc(types.int64(types.int64))
  def handle(address):
    frame = words(address)
    if frame[1] and words(frame[1])[1] & 0xFFFFFFFF == 1:  # a request of the version
      words(words(frame[1])[3])[3] = version
      return 0
    own = np.zeros(SIZE, np.int64)
    job, is_shared = own.ctypes.data, False
    for number in range(JOBS):
      place = first_job + 8 * SIZE * number
      if swap(place + 8 * LOCK, 0, 1):
        job, is_shared = place, True
        break
    parts = describe(job, frame)
    write(job + 8 * DONE, 0)
    write(job + 8 * LEFT, parts)  # from here on others take them
    for _ in range(min(helpers, parts - 1) if is_shared else 0):
      if not offer(job, frame, help_address):
        break
    work(job)
    while read(job + 8 * DONE) < parts:
      continue
    if is_shared:
      write(job + 8 * LOCK, 0)
    return 0

  return handle, help_with


def _worker(loop, dtypes, by_rows: bool):
  """Returns the function that takes parts of a job while there are some."""
  first_dtype, last_dtype, has_two = dtypes[0], dtypes[-1], len(dtypes) == 2

  @njit(inline="always")
  def compute(job, part):
    w = numba.carray(pointer(job), (SIZE,), np.int64)
    x_RD = numba.carray(pointer(w[X]), (w[R], w[D]), np.float32)
    begin = w[DIVIDED] * part // w[PARTS] // 16 * 16
    end = w[DIVIDED] * (part + 1) // w[PARTS] // 16 * 16
    end = w[DIVIDED] if part == w[PARTS] - 1 else end
    place = w[Y] + 4 * part * w[R] * w[F] if by_rows else w[Y]
    y_RF = numba.carray(pointer(place), (w[R], w[F]), np.float32)
    size = (w[D] + GROUP) * w[F]  # no array has more
    first = numba.carray(pointer(w[FIRST]), (size,), first_dtype)
    if has_two:
      last = numba.carray(pointer(w[LAST]), (size,), last_dtype)
      loop(x_RD, begin, end, (first, last), y_RF)
    else:
      loop(x_RD, begin, end, (first,), y_RF)

  @njit
  def work(job):
    while True:
      part = add(job + 8 * LEFT, -1) - 1
      if part < 0:
        return
      compute(job, part)
      add(job + 8 * DONE, 1)

  return work


def _describer(count: int, by_rows: bool):
  """Returns the function that writes the words of a job, and returns its parts."""

  @njit(inline="always")
  def describe(job, frame):
    w = numba.carray(pointer(job), (SIZE,), np.int64)
    args, results = words(frame[9]), words(frame[14])
    x, y, parts = words(args[0]), words(results[0]), words(args[1])
    w[PARTS] = numba.carray(pointer(parts[3]), (1,), np.int32)[0]
    w[X], w[R], w[D] = x[3], words(x[5])[0], words(x[5])[1]
    w[Y], w[F] = y[3], words(y[5])[y[4] - 1]
    w[DIVIDED] = w[D] if by_rows else w[F]
    w[FIRST], w[LAST] = words(args[2])[3], words(args[1 + count])[3]
    return w[PARTS]

  return describe


def _offerer():
  """Returns the function that asks XLA for one more thread; False if it has none."""
  schedule, destroy = _entries()

  @njit(inline="always")
  def offer(job, frame, function):
    request = np.zeros(5, np.int64)
    request[0], request[2], request[3], request[4] = 40, frame[3], function, job
    error = call(words(frame[2])[schedule], request.ctypes.data)
    if error:
      request[0], request[2] = 24, error
      call(words(frame[2])[destroy], request.ctypes.data)
    return error == 0

  return offer


@functools.cache
def _header() -> str:
  return (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()


def _version() -> int:
  """Returns the version of the interface that jaxlib has, as its struct holds it."""
  names = (rf"XLA_FFI_API_{part} (\d+)" for part in ("MAJOR", "MINOR"))
  major, minor = (int(re.search(name, _header())[1]) for name in names)
  return major | minor << 32


def _entries() -> tuple[int, int]:
  """Returns the words of a XLA_FFI_Api that schedule a task and destroy an error.

  Its functions lie behind the size, the extensions, the version and its own.
  """
  names = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\(XLA_FFI_(\w+)\);", _header())
  return tuple(
    6 + names.index(name) for name in ("ThreadPool_Schedule", "Error_Destroy")
  )


def _cores() -> int:
  affinity = getattr(os, "sched_getaffinity", None)
  return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def registered(name: str) -> str:
  """Returns the name by which XLA calls a kernel, compiled when it is first wanted."""
  handler, helper = _program(*KERNELS[name], by_rows=name.endswith("_rows"))
  _kept.extend((handler, helper))
  target = f"{NARROW}{name}"
  capsule = jax.ffi.pycapsule(handler.address)
  jax.ffi.register_ffi_target(target, capsule, platform="cpu")
  return target


_kept = []  # as long as the process lives
