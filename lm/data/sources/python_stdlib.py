"""The Python standard library's own source: code to learn from on every machine."""

import functools
import hashlib
import json
import pathlib
import sysconfig

from lm.data.sources import _records
from lm.disk import atomic

VERSION = 1
# Ordinary modules, of all kinds, that every version has: 4% of the library.
HELDOUT_MODULES = (
  "argparse",
  "base64",
  "collections",
  "difflib",
  "json",
  "statistics",
  "tarfile",
  "textwrap",
)
_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


def documents(argument: str, *, cache) -> dict:
  """A document a file; eight top-level modules are held out, with their tests.

  Files that are not UTF-8 (a few inputs of the library's own tests) are left out.
  """
  root = _root()
  names = [path.relative_to(root).as_posix() for path in _paths(root)]
  held = [_module(name) in HELDOUT_MODULES for name in names]
  return _records.split(names, held, functools.partial(_read, str(root)))


def content(argument: str, *, cache) -> str:
  """A hash of the names and bytes of all files."""
  root = _root()
  digests = [
    (path.relative_to(root).as_posix(), atomic.sha256_of_file(path))
    for path in _paths(root)
  ]
  return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _root() -> pathlib.Path:
  return pathlib.Path(sysconfig.get_path("stdlib"))


def _paths(root: pathlib.Path) -> list:
  return sorted(
    path
    for path in root.rglob("*.py")
    if not _NOT_THE_LIBRARY & set(path.relative_to(root).parts)
    and not path.name.startswith("_sysconfigdata")  # the settings of one machine
    and _is_utf8(path.read_bytes())
  )


def _is_utf8(data: bytes) -> bool:
  try:
    return bool(data.decode().strip())
  except UnicodeDecodeError:
    return False


def _module(name: str) -> str:
  """The top-level module of a file; "json" for "json/..." and "test/test_json/..."."""
  parts = [part.removesuffix(".py") for part in pathlib.PurePosixPath(name).parts]
  if parts[0] == "test" and len(parts) > 1:
    return parts[1].removeprefix("test_")
  return parts[0]


def _read(root: str, name: str) -> dict:
  return {"id": name, "text": pathlib.Path(root, name).read_text(encoding="utf-8")}
