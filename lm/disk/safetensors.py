"""Safetensors: files of named tensors, read and written one tensor at a time.

The format is https://huggingface.co/docs/safetensors: eight bytes with the length of a
JSON header, the header, the bytes of all tensors without gaps. The header is validated
as strictly as in the library; unlike it, this reads bfloat16, float8 and float4 into
NumPy arrays.
"""

import json
import math
import mmap
import os
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lm.errors import Mistake

HEADER_BYTES = 100_000_000  # at most, as in the library
# Name -> (dtype, bits), in the library's order: files have the widest tensors first.
DTYPES = {
  "BOOL": (np.bool_, 8),
  "F4": (ml_dtypes.float4_e2m1fn, 4),
  "U8": (np.uint8, 8),
  "I8": (np.int8, 8),
  "F8_E5M2": (ml_dtypes.float8_e5m2, 8),
  "F8_E4M3": (ml_dtypes.float8_e4m3fn, 8),
  "F8_E8M0": (ml_dtypes.float8_e8m0fnu, 8),
  "I16": (np.int16, 16),
  "U16": (np.uint16, 16),
  "F16": (np.float16, 16),
  "BF16": (ml_dtypes.bfloat16, 16),
  "I32": (np.int32, 32),
  "U32": (np.uint32, 32),
  "F32": (np.float32, 32),
  "C64": (np.complex64, 64),
  "F64": (np.float64, 64),
  "I64": (np.int64, 64),
  "U64": (np.uint64, 64),
}
_ORDER = list(DTYPES)


class Tensor(NamedTuple):
  """Dtype and shape of a tensor, which starts `start` bytes after the header."""

  dtype: str
  shape: tuple[int, ...]
  start: int = 0

  @property
  def num_bytes(self) -> int:
    """The size in the file."""
    return -(-math.prod(self.shape) * DTYPES[self.dtype][1] // 8)


class File:
  """`tensors`, by name in the order of their bytes, and `metadata` of one file.

  The bytes are mapped: an array takes memory once its values are used. Raises Mistake
  for whatever the format does not allow, before any value is used.
  """

  def __init__(self, path):
    self.path = Path(path)
    with open(path, "rb") as file:
      size = os.fstat(file.fileno()).st_size
      header = _header(self.path, file, size)
      self._begin = file.tell()
      self.metadata, self.tensors = _parsed(self.path, header, size - self._begin)
      self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor as the file has it, read-only; float4 is unpacked."""
    tensor = self.tensors[name]
    dtype, bits = DTYPES[tensor.dtype]
    kind, count = (np.uint8, tensor.num_bytes) if bits < 8 else (dtype, None)
    count = math.prod(tensor.shape) if count is None else count
    start = self._begin + tensor.start
    flat = np.empty(0, kind)
    if count:
      flat = np.frombuffer(self._bytes, kind, count, start)
    if bits < 8:  # the first of two is in the low half
      flat = np.stack([flat & 15, flat >> 4], axis=-1).reshape(-1).view(dtype)
    return flat.reshape(tensor.shape)

  def forget(self):
    """Gives the memory of tensors that were read back to the system."""
    self._bytes.madvise(mmap.MADV_DONTNEED)


def _header(path: Path, file, size: int) -> bytes:
  """Returns the JSON header; Mistake for a pickle, or a length that cannot be."""
  start = file.read(8)
  length = int.from_bytes(start, "little")
  if len(start) < 8 or not 2 <= length <= min(size - 8, HEADER_BYTES):
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
      raise Mistake(
        f"{path} is a pickle, which would run code when read; wanted safetensors"
      )
    raise Mistake(
      f"{path} is no safetensors file or cut off: {size} bytes, of which the header "
      f"should be {length} (at most {HEADER_BYTES})"
    )
  return file.read(length)


def _parsed(path: Path, header: bytes, size: int):
  """Returns (metadata, {name: Tensor}) of a header in front of `size` bytes."""
  try:
    if not header.startswith(b"{"):
      raise Mistake("it does not begin with {")
    entries = json.loads(header.decode(), object_pairs_hook=_unique)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict):
      raise Mistake("its __metadata__ is no object")
    if not all(isinstance(v, str) for v in metadata.values()):
      raise Mistake("its __metadata__ has values other than strings")
    tensors = [_tensor(name, value) for name, value in entries.items()]
  except (ValueError, RecursionError) as error:
    raise Mistake(f"{path} has a damaged header: {error}") from error
  end = 0
  tensors.sort(key=lambda item: (item[1].start, item[2]))
  for name, tensor, stop in tensors:
    if tensor.start != end:
      fault = "overlaps the tensor before it" if tensor.start < end else "leaves a gap"
      raise Mistake(f"{path} is damaged: {name} begins at {tensor.start}, {fault}")
    end = stop
  if end != size:
    raise Mistake(
      f"{path} has {size} bytes of tensors, its header tells of {end}; it was cut off "
      "or changed: fetch it again"
    )
  return metadata, {name: tensor for name, tensor, _ in tensors}


def _unique(pairs) -> dict:
  """Returns a dict of pairs; Mistake for a name that occurs twice."""
  values = dict(pairs)
  if len(values) < len(pairs):
    names = [name for name, _ in pairs]
    duplicate = next(name for name in names if names.count(name) > 1)
    raise Mistake(f"{_short(duplicate)} is in it twice")
  return values


def _tensor(name: str, entry) -> tuple[str, Tensor, int]:
  """Returns (name, tensor, its end) of an entry of the header."""
  keys = {"dtype", "shape", "data_offsets"}
  if not isinstance(entry, dict) or set(entry) != keys:
    raise Mistake(f"{_short(name)} should have {', '.join(sorted(keys))}")
  dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
  if not isinstance(dtype, str) or dtype not in DTYPES:
    dtypes = ", ".join(DTYPES)
    raise Mistake(f"{_short(name)} has dtype {_short(dtype)}; known: {dtypes}")
  if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
    raise Mistake(
      f"{_short(name)} has shape {_short(shape)} at {_short(offsets)}; wanted whole "
      "numbers"
    )
  start, end = offsets
  tensor = Tensor(dtype, tuple(shape), start)
  if end - start != tensor.num_bytes:
    raise Mistake(
      f"{_short(name)}, {dtype}{_short(shape)}, takes {_size(tensor.num_bytes)} bytes, "
      f"and has {_size(end - start)}"
    )
  return name, tensor, end


def _are_sizes(value) -> bool:
  return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _short(value) -> str:
  """Returns at most a hundred characters of a value from a file, in one line."""
  text = repr(value) if isinstance(value, str | list) else str(value)
  return text if len(text) <= 100 else text[:97] + "..."


def _size(n: int) -> str:
  """Returns a number as text; Python refuses those of more than 4300 digits."""
  return str(n) if abs(n) < 1 << 99 else "far too many"


class NewFile:
  """A file to write: it has its final size at once, its tensors come in any order.

  `tensors` has dtype and shape of all of them. When each was put, the file is byte for
  byte what the library would write. Tensors in a file that exists stay as they are.
  """

  def __init__(self, path, tensors: dict[str, Tensor], *, metadata=None):
    order = sorted(tensors, key=lambda n: (-_ORDER.index(tensors[n].dtype), n))
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name in order:
      tensor = tensors[name]
      offsets = [end, end := end + tensor.num_bytes]
      entry = {"dtype": tensor.dtype, "shape": list(tensor.shape)}
      header[name] = entry | {"data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    self._begin = 8 + len(text)
    self.tensors = {
      name: tensors[name]._replace(start=header[name]["data_offsets"][0])
      for name in order
    }
    self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    self._file.write(len(text).to_bytes(8, "little") + text)
    self._file.truncate(self._begin + end)

  def put(self, name: str, array):
    """Writes the values of a tensor, which has the dtype and shape announced."""
    tensor = self.tensors[name]
    self._file.seek(self._begin + tensor.start)
    self._file.write(_stored(name, tensor, array))

  def sync(self):
    """Returns when all tensors that were put survive a power cut."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._file.close()


def _stored(name: str, tensor: Tensor, array) -> memoryview:
  """Returns the bytes of an array in the file; float4 is packed."""
  dtype, bits = DTYPES[tensor.dtype]
  assert array.dtype == dtype and array.shape == tensor.shape, name
  flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
  if bits < 8:
    flat = np.pad(flat, (0, flat.size % 2))
    flat = flat[::2] | flat[1::2] << 4
  return memoryview(flat)
