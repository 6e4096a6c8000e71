"""Reads GGUF files (github.com/ggml-org/ggml, docs/gguf.md), checking every value.

    file = GgufFile("model.gguf")
    file.fields["general.architecture"], file.tensors["output_norm.weight"].shape

Only the metadata and the offsets of tensors are parsed here; the `gguf` package, which
dequantises blocks, takes 200 MB and five seconds to parse the same for a vocabulary of
49,152.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lm.errors import Mistake

# Type of a value -> its struct format; 8 is a string and 9 an array.
FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"}
FORMATS |= {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
VERSIONS = (2, 3)
# Kinds of blocks of 32 whole numbers behind a float16 scale -> their bytes.
BLOCKS = {"Q8_0": 34, "Q4_0": 18}


class Stored(NamedTuple):
  """The location of a tensor, and its shape in NumPy's order, the last dim blocked."""

  kind: int  # a GGMLQuantizationType
  shape: tuple[int, ...]
  start: int  # the offset in the file
  num_bytes: int


class GgufFile:
  """`fields` by key, and `tensors` (`Stored`) by name.

  Raises Mistake for what the format forbids.
  """

  def __init__(self, path):
    self.path = Path(path)
    with open(path, "rb") as file:
      if os.fstat(file.fileno()).st_size < 24:
        raise Mistake(f"{path} is no GGUF file: it has less than 24 bytes")
      self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    self._offset = 0
    try:
      self._read()
    except (ValueError, KeyError, struct.error) as error:
      reason = f"no type of value {error}" if isinstance(error, KeyError) else error
      raise Mistake(f"{path} is no GGUF file or damaged: {reason}") from error

  def _read(self):
    """Parses the header, the fields and where each tensor is."""
    magic, version, tensors, fields = (self._take(f) for f in ("4s", "I", "Q", "Q"))
    if magic != b"GGUF" or version not in VERSIONS:
      raise Mistake(f"it begins with {magic!r} and version {version}")
    self._fits(tensors + fields)
    self.fields = {}
    for _ in range(fields):
      key = self._string()
      if key in self.fields:
        raise Mistake(f"{key!r} is in it twice")
      self.fields[key] = self._value(self._take("I"))
    headers = [self._header() for _ in range(tensors)]
    align = self.fields.get("general.alignment", 32)
    if type(align) is not int or align < 1:
      raise Mistake(f"general.alignment is {align!r}")
    begin = -(-self._offset // align) * align
    self.tensors, end = {}, begin
    for name, kind, shape, offset in sorted(headers, key=lambda header: header[3]):
      stored = Stored(kind, shape, begin + offset, _num_bytes(name, kind, shape))
      if name in self.tensors:
        raise Mistake(f"tensor {name!r} is in it twice")
      if stored.start < end or stored.start + stored.num_bytes > len(self._bytes):
        raise Mistake(f"{name} lies on another tensor or past the end; it is cut off")
      self.tensors[name] = stored
      end = stored.start + stored.num_bytes

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor in float32; Mistake for a quantisation that is not supported."""
    from gguf import GGMLQuantizationType, quants

    stored = self.tensors[name]
    raw = np.frombuffer(self._bytes, np.uint8, stored.num_bytes, stored.start)
    rows = raw.reshape(*stored.shape[:-1], -1) if stored.num_bytes else raw
    kind = GGMLQuantizationType(stored.kind)
    try:
      return quants.dequantize(rows, kind).reshape(stored.shape)
    except NotImplementedError as error:
      raise Mistake(
        f"{self.path} has {name} as {kind.name}, which cannot be read here; take "
        "another quantisation"
      ) from error

  def blocks(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a tensor's whole numbers, and the scale of each: their product is it.

    Of the kinds in BLOCKS. Both are float32 and of its shape.
    """
    stored = self.tensors[name]
    raw = np.frombuffer(self._bytes, np.uint8, stored.num_bytes, stored.start)
    raw = raw.reshape(-1, BLOCKS[self.kind(name)])
    scales, codes = raw[:, :2].copy().view(np.float16), raw[:, 2:]
    if self.kind(name) == "Q8_0":
      codes = codes.view(np.int8)
    else:
      codes = np.concatenate([codes & 15, codes >> 4], axis=1).astype(np.int8) - 8
    scales = np.broadcast_to(scales, codes.shape)
    return tuple(x.astype(np.float32).reshape(stored.shape) for x in (codes, scales))

  def kind(self, name: str) -> str:
    """Returns the name of a tensor's kind, such as "Q8_0"."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(self.tensors[name].kind).name

  def forget(self):
    """Gives the memory of tensors that were read back to the system."""
    self._bytes.madvise(mmap.MADV_DONTNEED)

  # The following read at the offset, and move it.

  def _take(self, form: str):
    [value] = struct.unpack_from(f"<{form}", self._bytes, self._offset)
    self._offset += struct.calcsize(f"<{form}")
    return value

  def _fits(self, count: int):
    """Raises Mistake if the rest of the file is too small for `count` values."""
    if count > len(self._bytes) - self._offset:
      raise Mistake(f"it tells of {count} values, more than it has bytes")

  def _string(self) -> str:
    size = self._take("Q")
    self._fits(size)
    self._offset += size
    return self._bytes[self._offset - size : self._offset].decode()

  def _value(self, kind: int, depth: int = 0):
    if kind == STRING:
      return self._string()
    if kind != ARRAY:
      return self._take(FORMATS[kind])
    inner, count = self._take("I"), self._take("Q")
    self._fits(count)
    if inner in FORMATS:
      form = f"<{count}{FORMATS[inner]}"
      values = struct.unpack_from(form, self._bytes, self._offset)
      self._offset += struct.calcsize(form)
      return list(values)
    if depth > 3:
      raise Mistake("arrays in arrays in arrays")
    return [self._value(inner, depth + 1) for _ in range(count)]

  def _header(self):
    """Returns (name, kind, shape, offset) of one tensor."""
    name, ndim = self._string(), self._take("I")
    self._fits(ndim)
    shape = tuple(self._take("Q") for _ in range(ndim))[::-1]
    return name, self._take("I"), shape, self._take("Q")


def _num_bytes(name: str, kind: int, shape) -> int:
  """Returns the size of a tensor; Mistake for a kind or shape that cannot be."""
  from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

  if kind not in {k.value for k in GGMLQuantizationType} or not shape:
    raise Mistake(f"{name} is of kind {kind} and shape {list(shape)}")
  block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
  if shape[-1] % block:
    raise Mistake(f"{name} has rows of {shape[-1]}, not in blocks of {block}")
  num = size
  for n in (*shape[:-1], shape[-1] // block):
    num *= n
  return num
