"""The user's mistakes, and the small validators that raise them."""

import dataclasses
import difflib
import math
import numbers


class Mistake(ValueError):
  """Something the user can correct: one line with what was wanted, got and what to do.

  A verb prints the line and ends with exit code 2; any other error keeps its traceback.
  """


def suggestion(name: str, known, *, otherwise: str = "") -> str:
  """ "did you mean 'layers'?" for the closest of the known names; else `otherwise`."""
  close = difflib.get_close_matches(name, known, n=1)
  return f"did you mean {close[0]!r}?" if close else otherwise


def one_of(kind: str, value: str, known) -> str:
  """`value`, if it is among the `known` ones; Mistake lists them."""
  if value not in known:
    raise Mistake(f"no {kind} {value!r}; found: {', '.join(known)}")
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
  """(a field's value, whether it has to be whole); Mistake when it is no number."""
  value = getattr(config, name)
  whole = {f.name: f.type for f in dataclasses.fields(config)}[name] is int
  if isinstance(value, numbers.Integral):
    return value, whole
  if whole or not isinstance(value, numbers.Real) or not math.isfinite(value):
    kind = "whole" if whole else "finite"
    raise Mistake(f"{name}={value!r}; wanted a {kind} number")
  return value, whole
