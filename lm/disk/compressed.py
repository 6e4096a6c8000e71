"""Files that may be compressed, read as if they were not.

The first bytes of a file decide, not its name: .gz, .bz2 and .xz by the standard
library, .zst by Python 3.14's or by the package backports.zstd. Other archives are
refused by name.
"""

import bz2
import contextlib
import functools
import gzip
import importlib
import importlib.util
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
  b"PK\x03\x04": "zip",
  b"7z\xbc\xaf\x27\x1c": "7z",
  b"\x04\x22\x4d\x18": "lz4",
  b"Rar!": "rar",
  b"\x1f\x9d": "compress",
}
_OPENERS = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
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
  if name in _OPENERS:
    return _OPENERS[name](path, "rb")
  if name != "zstd":
    raise Mistake(f"{path} is a {name} archive; unpack it first")
  zstd = _zstd()
  if zstd is None:
    raise Mistake(
      f"{path} is compressed by zstd, which needs Python 3.14 or `.venv/bin/pip install"
      " backports.zstd`; or unpack it first (zstd -d)"
    )
  return zstd.open(path, "rb")


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
  """Raises Mistake for what a decompressor raises within a block."""
  zstd = _zstd()
  errors = [EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile]
  errors += [zstd.ZstdError] if zstd else []
  try:
    yield
  except (*errors, OSError) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise  # of the disk, not of the data; bz2 raises one without a number
    raise Mistake(f"{path} is damaged or cut off: {error}") from error


@functools.cache
def _zstd():
  """Returns the module that reads .zst, None without one."""
  for name in _ZSTD:
    top = name.partition(".")[0]
    if importlib.util.find_spec(top) and importlib.util.find_spec(name):
      return importlib.import_module(name)
  return None
