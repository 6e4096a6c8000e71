"""Modules and functions found by name: adding the file is registering it."""

import importlib
import inspect
import pkgutil
import re

from lm.errors import Mistake


def names(package: str) -> list[str]:
  """The names of the public modules of `package` ("lm.models"), sorted."""
  modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
  return sorted(m.name for m in modules if not m.name.startswith("_"))


def find(package: str, name: str):
  """Returns the module `name` of `package` ("lm.models"); Mistake lists what exists."""
  existing = names(package)
  if name not in existing:
    path = package.replace(".", "/")
    raise Mistake(
      f"no {name!r} in {path}; found: {', '.join(existing)} (to add it: "
      f"{path}/{name}.py)"
    )
  return importlib.import_module(f"{package}.{name}")


def numbered(name: str) -> tuple[str, int | None]:
  """Splits "bpe-2048" into ("bpe", 2048); a name without a number gets None."""
  match = re.fullmatch(r"(.+)-(\d+)", name)
  return (match[1], int(match[2])) if match else (name, None)


def function(module, name: str):
  """The public function `name` that `module`, or a file of it, defines.

  Mistake lists them.
  """
  found = {
    key: value
    for key, value in vars(module).items()
    if inspect.isfunction(value)
    and f"{value.__module__}.".startswith(f"{module.__name__}.")
    and not key.startswith("_")
  }
  if name not in found:
    raise Mistake(
      f"no {name!r} in {module.__name__}; found: {', '.join(sorted(found))}"
    )
  return found[name]
