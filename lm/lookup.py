"""Modules and functions by name: adding the file is registering it."""

import importlib
import pkgutil
import re
from collections.abc import Callable

from lm.errors import Mistake, suggestion


def names(package: str) -> list[str]:
  """Returns the names of the public modules of `package` ("lm.models"), sorted."""
  modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
  return sorted(m.name for m in modules if not m.name.startswith("_"))


def find(package: str, name: str):
  """Returns the module `name` of `package` ("lm.models"); Mistake lists what exists."""
  existing = names(package)
  if name not in existing:
    path = package.replace(".", "/")
    close = suggestion(name, existing)
    raise Mistake(
      f"no {name!r} in {path}; {close and f'{close} '}found: {', '.join(existing)} "
      f"(to add it: {path}/{name}.py)"
    )
  return importlib.import_module(f"{package}.{name}")


def function(package: str, name: str) -> Callable:
  """Returns the function `name` of the file of that name in `package`.

  Raises Mistake, which lists the functions that there are.
  """
  if name in names(package):
    module = importlib.import_module(f"{package}.{name}")
    if callable(getattr(module, name, None)):
      return getattr(module, name)
  path, existing = package.replace(".", "/"), ", ".join(functions(package))
  raise Mistake(
    f"no {name!r} in {path}; found: {existing} (to add it: a function {name} in "
    f"{path}/{name}.py)"
  )


def functions(package: str) -> dict[str, Callable]:
  """Returns {name: function} of the files that define a function of their own name."""
  members = {}
  for name in names(package):
    module = importlib.import_module(f"{package}.{name}")
    if callable(getattr(module, name, None)):
      members[name] = getattr(module, name)
  return members


def numbered(name: str) -> tuple[str, int | None]:
  """Splits "bpe-2048" into ("bpe", 2048); a name without a number gets None."""
  match = re.fullmatch(r"(.+)-(\d+)", name)
  return (match[1], int(match[2])) if match else (name, None)
