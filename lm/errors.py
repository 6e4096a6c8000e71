"""The user's mistakes, and the small validators that raise them."""

import dataclasses
import difflib
import importlib.util
import math
import numbers
from collections.abc import Mapping


class Mistake(ValueError):
  """Something the user can correct: one line with what was wanted, got and what to do.

  A verb prints the line and ends with exit code 2; any other error keeps its traceback.
  """


def suggestion(name: str, names, *, otherwise: str = "") -> str:
  """Returns "did you mean 'layers'?" for the closest of `names`; else `otherwise`."""
  close = difflib.get_close_matches(name, names, n=1)
  return f"did you mean {close[0]!r}?" if close else otherwise


def one_of(kind: str, value: str, values) -> str:
  """Returns `value`; Mistake, which lists the `values`, if it is none of them."""
  if value not in values:
    raise Mistake(f"no {kind} {value!r}; found: {', '.join(values)}")
  return value


def check_installed(package: str, what: str):
  """Raises Mistake, with the command, where an optional package is not installed."""
  if importlib.util.find_spec(package) is None:
    raise Mistake(f"{what} needs {package}; .venv/bin/python -m pip install {package}")


def check_arguments(function: str, model, params, tokenizer=None):
  """Raises Mistake when one of them is something else: swapped arguments, a path.

  `function` is the name in the message. `tokenizer` may be None.
  """
  kinds = {
    "model": (model, hasattr(model, "traits"), "a model, as of lm.model or lm.load"),
    "params": (params, isinstance(params, Mapping), "a dict of arrays by name"),
    "tokenizer": (
      tokenizer,
      tokenizer is None or hasattr(tokenizer, "decode"),
      "a tokenizer, as of lm.load or lm.data.tokenizers.load, or None",
    ),
  }
  for name, (value, fits, wanted) in kinds.items():
    if not fits:
      raise Mistake(f"{function}: {name} is a {type(value).__name__}; wanted {wanted}")


def positive(config, *names):
  """Raises Mistake for the first of these fields of a dataclass that is not above 0."""
  for name in names:
    value, whole = _number(config, name)
    if value <= 0:
      wanted = "1 or more" if whole else "more than 0"
      raise Mistake(f"{name}={value}; wanted {wanted}")


def not_negative(config, *names, zero=""):
  """As `positive`, but they may be 0; the error can say what that means."""
  for name in names:
    value, _ = _number(config, name)
    if value < 0:
      raise Mistake(f"{name}={value}; wanted 0{zero and f' ({zero})'} or more")


def _number(config, name):
  """Returns (a field's value, whether it must be whole); Mistake if it is no number."""
  value = getattr(config, name)
  whole = {f.name: f.type for f in dataclasses.fields(config)}[name] is int
  if isinstance(value, numbers.Integral):
    return value, whole
  if whole or not isinstance(value, numbers.Real) or not math.isfinite(value):
    kind = "whole" if whole else "finite"
    raise Mistake(f"{name}={value!r}; wanted a {kind} number")
  return value, whole
