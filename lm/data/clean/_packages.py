"""Versions of optional packages, on which the outcome of a rule depends."""

import importlib.metadata

from lm.errors import Mistake


def version(name: str) -> str:
  """Returns the version of a package; Mistake with the command that installs it."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    raise Mistake(
      f"{name} is not installed; .venv/bin/python -m pip install {name}"
    ) from None
