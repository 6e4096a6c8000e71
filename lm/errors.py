"""The user's mistakes, and the small validators that raise them."""

import dataclasses
import difflib
import math
import numbers


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
