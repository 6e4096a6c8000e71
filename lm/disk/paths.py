"""Paths as users write them."""

import os
from pathlib import Path

from lm.errors import Mistake


def home(path) -> Path:
  """Returns the path with the home folder in place of a "~" or "~user" in front.

  Shells do this only at the start of a word, and not in --workdir=~/runs/a. Raises
  Mistake where nothing says which folder that is.
  """
  try:
    return Path(os.fspath(path)).expanduser()
  except RuntimeError as error:
    name = Path(path).parts[0]
    raise Mistake(
      f"{path}: there is no home folder {name} (of no such user, or HOME is not set); "
      f"write the whole path, or ./{name} for a folder of that name"
    ) from error
