"""Things found by the name of their file or function: adding it is registering it.

And what the values of a config have to be.
"""

import dataclasses
import difflib
import importlib
import inspect
import math
import numbers
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
  """The public function `name` that `module`, or a file of it, defines.

  ValueError lists them.
  """
  found = {
    key: value
    for key, value in vars(module).items()
    if inspect.isfunction(value)
    and f"{value.__module__}.".startswith(f"{module.__name__}.")
    and not key.startswith("_")
  }
  if name not in found:
    raise ValueError(
      f"no {name!r} in {module.__name__}; found: {', '.join(sorted(found))}"
    )
  return found[name]


def one_of(kind: str, value: str, known) -> str:
  """`value`, if it is among the `known` ones; ValueError lists them."""
  if value not in known:
    raise ValueError(f"no {kind} {value!r}; found: {', '.join(known)}")
  return value


def positive(config, *names):
  """ValueError for the first of these fields of a dataclass that is not above 0."""
  for name in names:
    value, whole = _number(config, name)
    if value <= 0:
      wanted = "1 or more" if whole else "more than 0"
      raise ValueError(f"{name}={value}; wanted {wanted}")


def not_negative(config, *names, zero=""):
  """As `positive`, but they may be 0; the error can say what that means."""
  for name in names:
    value, _ = _number(config, name)
    if value < 0:
      raise ValueError(f"{name}={value}; wanted 0{zero and f' ({zero})'} or more")


def _number(config, name):
  """(a field's value, whether it has to be whole); ValueError when it is no number."""
  value = getattr(config, name)
  whole = {f.name: f.type for f in dataclasses.fields(config)}[name] is int
  if isinstance(value, numbers.Integral):
    return value, whole
  if whole or not isinstance(value, numbers.Real) or not math.isfinite(value):
    kind = "whole" if whole else "finite"
    raise ValueError(f"{name}={value!r}; wanted a {kind} number")
  return value, whole


def model(family: str, *, preset: str = "", vocab: int, **fields):
  """The model of a family: a preset's values, some of them replaced by `fields`.

  Fields are flat: `heads=8` finds its way into the group of the Config that has it.
  Raises ValueError for a preset or a field that does not exist.
  """
  module = find("lm.models", family)
  name = preset.replace("_", "-")
  if name and name not in module.PRESETS:
    known = ", ".join(module.PRESETS)
    raise ValueError(f"no preset {preset!r} in family {family!r}; found: {known}")
  known = _names(module.Config)
  for field in fields:
    if field not in known:
      near = difflib.get_close_matches(field, known, n=1)
      hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
      raise ValueError(f"family {family!r} has no field {field!r}; {hint}")
  fields = module.PRESETS.get(name, {}) | fields | {"vocab": vocab}
  return module.Model(_fill(module.Config, fields))


def fields(built) -> dict:
  """What `model` has to be told, but for the vocabulary, to make `built` again."""
  values = {"family": type(built).__module__.rpartition(".")[2]} | _flat(built.config)
  del values["vocab"]
  return values


def _flat(config) -> dict:
  """The values of a dataclass and of those in it, by their flat names."""
  found = {}
  for f in dataclasses.fields(config):
    value = getattr(config, f.name)
    found |= _flat(value) if dataclasses.is_dataclass(value) else {f.name: value}
  return found


def _fill(cls, fields: dict):
  """A `cls`, its fields and those of the dataclasses in it, from `fields`."""
  values = {}
  for f in dataclasses.fields(cls):
    if dataclasses.is_dataclass(f.type):
      group = f.default_factory()  # whose defaults need not be those of its class
      told = {name: fields[name] for name in _names(f.type) if name in fields}
      values[f.name] = dataclasses.replace(group, **told)
    elif f.name in fields:
      values[f.name] = fields[f.name]
  return cls(**values)


def _names(cls) -> list[str]:
  """The flat names of all fields of `cls`."""
  return [
    name
    for f in dataclasses.fields(cls)
    for name in (_names(f.type) if dataclasses.is_dataclass(f.type) else [f.name])
  ]
