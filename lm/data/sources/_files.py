"""The files below a folder, with what was left out and why."""

import collections
from pathlib import Path

from lm.data.sources import _records
from lm.errors import Mistake


def below(root: Path, suffixes: tuple) -> tuple[list[Path], dict[str, list[str]]]:
  """Returns (files whose names end in a suffix, {reason: names of others}); sorted.

  Links are followed, once: what a link leads to and was seen in its own place, or
  behind another link, is left out. So are hidden files and folders (macOS puts its
  "._a.txt" beside a.txt on other disks), empty files, and links that lead nowhere.
  """
  files, left_out, visited = [], {}, set()
  places, links = [root], collections.deque()
  while places or links:
    path = places.pop() if places else links.popleft()
    is_folder = path.is_dir()
    if not is_folder and not path.name.endswith(suffixes):
      continue
    reason = "" if path == root else _reason(path, is_folder, visited)
    if reason:
      left_out.setdefault(reason, []).append(
        _records.shown(str(path.relative_to(root)))
      )
      continue
    visited.add(_identity(path))
    if not is_folder:
      files.append(path)
      continue
    for child in sorted(path.iterdir()):
      (links if child.is_symlink() else places).append(child)
  order = sorted(files, key=lambda file: file.parts)
  return order, {reason: sorted(names) for reason, names in sorted(left_out.items())}


def _reason(path: Path, is_folder: bool, visited: set) -> str:
  """The reason to leave a file or folder out, "" for none."""
  if path.name.startswith("."):
    return "hidden"
  if not is_folder and not path.is_file():
    return "no file"  # a link that leads nowhere, a socket
  if (is_folder or path.is_symlink()) and _identity(path) in visited:
    return "a link to what is there already"
  return "" if is_folder or path.stat().st_size else "empty"


def _identity(path: Path) -> tuple:
  status = path.stat()
  return status.st_dev, status.st_ino


def check_some(files, left_out: dict, where: str):
  """Raises Mistake, which says what was left out, if no file is left."""
  if files:
    return
  listed = "; ".join(f"{k}: {', '.join(names[:3])}" for k, names in left_out.items())
  raise Mistake(
    f"no .txt file in {where}{listed and f' but what is left out ({listed})'}"
  )
