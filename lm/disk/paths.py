"""Paths that a user gives: they name files of this machine, in any characters."""

import os
import re
from pathlib import Path

from lm.errors import Mistake

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def local(path) -> Path:
  """Returns a path as a Path, with the home folder in place of "~" or "~user" in front.

  Shells do that only at the start of a word, and not in --workdir=~/runs/a. As there,
  "~name" without such a user is a name like any other, and so is "./~". Raises Mistake
  for a URL, such as gs://bucket/run, which would be a folder "gs:" in the current one,
  and where nothing says which folder is the home.
  """
  if not isinstance(path, str | bytes | os.PathLike):
    raise Mistake(f"{path!r} of type {type(path).__name__}; wanted a path")
  if _URL.match(os.fsdecode(path)):
    raise Mistake(
      f"{path} is a URL; wanted a path of this machine: mount the bucket, or copy what "
      "is there, and give that path"
    )
  expanded = os.path.expanduser(path)
  if os.fsdecode(expanded).partition("/")[0] == "~":
    raise Mistake(
      f"{path}: HOME does not say which folder is the home; write the whole path, from "
      "/ on"
    )
  return Path(expanded)


class Opened:
  """An open folder, and a `path` to it that has no character of its name.

  For libraries that take paths for patterns, URLs or UTF-8. On Linux the path is
  /proc/self/fd/N, which holds in all threads of this process until `close`; elsewhere
  it is the folder's own.
  """

  def __init__(self, folder):
    self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    self.path = Path("/proc/self/fd", str(self._handle))
    if not self.path.exists():
      self.path = Path(folder)

  def close(self) -> None:
    """Closes the folder; another one may have the path then."""
    os.close(self._handle)

  def __enter__(self) -> Path:
    return self.path

  def __exit__(self, *error):
    self.close()
