"""Things found by the name of their file or function: adding it is registering it."""

import importlib
import inspect
import pkgutil


def find(package: str, name: str):
  """The module `name` of `package` ("lm.models"); ValueError lists what exists."""
  parent = importlib.import_module(package)
  found = sorted(
    m.name for m in pkgutil.iter_modules(parent.__path__) if not m.name.startswith("_")
  )
  if name not in found:
    path = package.replace(".", "/")
    raise ValueError(
      f"no {name!r} in {path}; found: {', '.join(found)} (to add it: {path}/{name}.py)"
    )
  return importlib.import_module(f"{package}.{name}")


def function(module, name: str):
  """The public function `name` that `module` itself defines; ValueError lists them."""
  found = {
    key: value
    for key, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and not key.startswith("_")
  }
  if name not in found:
    raise ValueError(
      f"no {name!r} in {module.__name__}; found: {', '.join(sorted(found))}"
    )
  return found[name]
