"""Tuples as flags: --config.data.source=a,b as Python would write the tuple."""

import ast

from ml_collections import ConfigDict

from lm.errors import Mistake


def spelt_out(arguments, config: ConfigDict) -> list[str]:
  """Returns the arguments, those for tuples as Python writes a tuple.

  ml_collections takes "a,b" for a tuple of one string.
  """
  arguments = list(arguments)
  for place, argument in enumerate(arguments):
    name, given, value = argument.partition("=")
    if not name.startswith(("-config.", "--config.")):
      continue
    if isinstance(_value(config, name.lstrip("-")), tuple):
      if given:
        arguments[place] = f"{name}={parse(value)!r}"
      elif place + 1 < len(arguments):
        arguments[place + 1] = repr(parse(arguments[place + 1]))
  return arguments


def _value(config: ConfigDict, flag: str):
  """Returns the value of the flag "config.GROUP.NAME", None if there is none."""
  for name in flag.split(".")[1:]:
    if not isinstance(config, ConfigDict) or name not in config:
      return None
    config = config[name]
  return config


def parse(text: str) -> tuple:
  """Returns the tuple of a flag: "a,b" and "1,2", or as Python writes it."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError) as error:
    if text.lstrip().startswith(("(", "[")):
      raise Mistake(f"{text} is no tuple; wanted a,b or ('a', 'b')") from error
    return tuple(part.strip() for part in text.split(",") if part.strip())
  return tuple(value) if isinstance(value, tuple | list) else (value,)
