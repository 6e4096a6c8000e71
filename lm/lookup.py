"""Modules and functions found by name: adding the file is registering it."""

import importlib
import inspect
import pkgutil

from lm.errors import Mistake


def find(package: str, name: str):
  """The module `name` of `package` ("lm.models"); Mistake lists what exists."""
  parent = importlib.import_module(package)
  found = sorted(
    m.name for m in pkgutil.iter_modules(parent.__path__) if not m.name.startswith("_")
  )
  if name not in found:
    path = package.replace(".", "/")
    raise Mistake(
      f"no {name!r} in {path}; found: {', '.join(found)} (to add it: {path}/{name}.py)"
    )
  return importlib.import_module(f"{package}.{name}")


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


def functions(package: str) -> dict:
  """{name: function} of the files of `package` that define a function of their name."""
  parent, functions = importlib.import_module(package), {}
  for info in sorted(pkgutil.iter_modules(parent.__path__), key=lambda m: m.name):
    module = importlib.import_module(f"{package}.{info.name}")
    if callable(getattr(module, info.name, None)):
      functions[info.name] = getattr(module, info.name)
  return functions
