"""Files that may be compressed, read as if they were not.

The first bytes of a file decide, not its name: .gz, .bz2 and .xz by the standard
library, .zst by Python 3.14's or by the package backports.zstd. Other archives are
refused by name.

A file may be several compressed ones in a row, as `cat` and parallel packers make them.
Each is read to its end, or an error: nothing after one is taken for garbage and left
out. Only a file cut exactly between two of them reads without an error.
"""

import bz2
import contextlib
import functools
import gzip
import importlib
import importlib.util
import io
import lzma
import zlib
from pathlib import Path

from lm.errors import Mistake

SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zst")
_KINDS = {
  b"\x1f\x8b": "gzip",
  b"BZh": "bzip2",
  b"\xfd7zXZ\x00": "xz",
  b"\x28\xb5\x2f\xfd": "zstd",
  b"\x50\x2a\x4d\x18": "zstd",  # of pzstd, which begins with a frame to skip
  b"PK\x03\x04": "zip",
  b"7z\xbc\xaf\x27\x1c": "7z",
  b"\x04\x22\x4d\x18": "lz4",
  b"Rar!": "rar",
  b"\x1f\x9d": "compress",
}
_DECOMPRESSORS = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
_BLOCK = 1 << 17  # bytes that are read at a time
_WINDOW_LOG = 31  # memory that `zstd --long=31` takes to unpack; by default 27
_ZSTD = ("compression.zstd", "backports.zstd")  # one interface, in and before 3.14


def kind(path) -> str:
  """Returns "gzip", "zip", ... by the first bytes of a file; "" for one that is plain.

  The first bytes of bzip2 are letters, and need its next ones too.
  """
  with Path(path).open("rb") as file:
    start = file.read(10)
  for magic, name in _KINDS.items():
    if start.startswith(magic) and (
      name != "bzip2" or start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
    ):
      return name
  return ""


def reader(path):
  """Returns a binary file to read and seek in; use it `with damage(path)`.

  Raises Mistake for an archive that is not read, with what unpacks it.
  """
  path, name = Path(path), kind(path)
  if not name:
    return path.open("rb")
  if name == "gzip":
    return gzip.open(path, "rb")
  if name in _DECOMPRESSORS:
    return io.BufferedReader(_Streams(path, _DECOMPRESSORS[name]), _BLOCK)
  if name != "zstd":
    raise Mistake(f"{path} is a {name} archive; unpack it first")
  zstd = _zstd()
  if zstd is None:
    raise Mistake(
      f"{path} is compressed by zstd, which needs Python 3.14 or `.venv/bin/pip install"
      " backports.zstd`; or unpack it first (zstd -d)"
    )
  window = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
  return zstd.open(path, "rb", options=window)


@contextlib.contextmanager
def open(path):
  """The file of `reader` within a block; Mistake when the compressed data are damaged.

  with compressed.open("a.txt.gz") as file:
    data = file.read()
  """
  with damage(path), reader(path) as file:
    yield file


@contextlib.contextmanager
def damage(path):
  """Raises Mistake for what a decompressor raises within a block.

  `path` is the file, or a function that returns what to name in its place.
  """
  zstd = _zstd()
  errors = [EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile]
  errors += [zstd.ZstdError] if zstd else []
  try:
    yield
  except (*errors, OSError) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise  # of the disk, not of the data; bz2 raises one without a number
    where = path() if callable(path) else path
    raise Mistake(f"{where} is damaged or cut off: {error}") from error


class _Streams(io.RawIOBase):
  """The content of compressed streams in a row; zeros between them are padding.

  Python's own files of bz2 and lzma take a stream that is damaged in its first bytes
  for garbage, and end before it.
  """

  def __init__(self, path: Path, decompressor):
    self._file, self._decompressor = path.open("rb"), decompressor
    self._rewind()

  def _rewind(self):
    self._file.seek(0)
    self._place, self._stream = 0, self._decompressor()

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def readinto(self, buffer) -> int:
    data = self._read(len(buffer))
    buffer[: len(data)] = data
    self._place += len(data)
    return len(data)

  def _read(self, size: int) -> bytes:
    """Returns up to `size` bytes; raises EOFError for a file that ends too early."""
    data = b""
    while not data:
      packed = b""
      if self._stream.eof:
        packed = self._next()
        if not packed:
          break
        self._stream = self._decompressor()
      elif self._stream.needs_input:
        packed = self._file.read(_BLOCK)
        if not packed:
          raise EOFError("it ends before its last stream does")
      data = self._stream.decompress(packed, size)
    return data

  def _next(self) -> bytes:
    """Returns the first bytes of the next stream, none at the end of the file."""
    packed = self._stream.unused_data.lstrip(b"\0")
    while not packed and (block := self._file.read(_BLOCK)):
      packed = block.lstrip(b"\0")
    return packed

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    """Goes to an offset from the start, by unpacking what is before it."""
    if whence != io.SEEK_SET:
      raise io.UnsupportedOperation("only offsets from the start")
    if offset < self._place:
      self._rewind()
    while self._place < offset:
      data = self._read(min(_BLOCK, offset - self._place))
      if not data:
        break
      self._place += len(data)
    return self._place

  def tell(self) -> int:
    return self._place

  def close(self):
    self._file.close()
    super().close()


@functools.cache
def _zstd():
  """Returns the module that reads .zst, None without one."""
  for name in _ZSTD:
    top = name.partition(".")[0]
    if importlib.util.find_spec(top) and importlib.util.find_spec(name):
      return importlib.import_module(name)
  return None
