"""Modules and functions found by name: adding the file is registering it."""

import importlib
import pkgutil
from collections.abc import Callable

from lm.errors import Mistake


def find(package: str, name: str):
  """Returns the module `name` of `package` ("lm.models"); Mistake lists what exists."""
  names = _module_names(package)
  if name not in names:
    path = package.replace(".", "/")
    raise Mistake(
      f"no {name!r} in {path}; found: {', '.join(names)} (to add it: {path}/{name}.py)"
    )
  return importlib.import_module(f"{package}.{name}")


def function(package: str, name: str) -> Callable:
  """Returns the function `name` of the file of that name in `package`.

  Raises Mistake, which lists the functions that there are.
  """
  if name in _module_names(package):
    module = importlib.import_module(f"{package}.{name}")
    if callable(getattr(module, name, None)):
      return getattr(module, name)
  path, names = package.replace(".", "/"), ", ".join(functions(package))
  raise Mistake(
    f"no {name!r} in {path}; found: {names} (to add it: a function {name} in "
    f"{path}/{name}.py)"
  )


def functions(package: str) -> dict[str, Callable]:
  """Returns {name: function} of the files that define a function of their own name."""
  members = {}
  for name in _module_names(package):
    module = importlib.import_module(f"{package}.{name}")
    if callable(getattr(module, name, None)):
      members[name] = getattr(module, name)
  return members


def _module_names(package: str) -> list[str]:
  parent = importlib.import_module(package)
  return sorted(
    m.name for m in pkgutil.iter_modules(parent.__path__) if not m.name.startswith("_")
  )
