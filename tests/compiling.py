"""Compiled programs, with XLA's messages and the shapes of their arrays."""

import re

import jax


def compiled(capfd, jitted, args):
  """Returns (compiled function, messages that XLA wrote on standard error).

  The persistent cache is not used: a program from there is compiled without messages.
  """
  limit = "jax_persistent_cache_min_compile_time_secs"
  before = jax.config.values[limit]
  capfd.readouterr()
  jax.config.update(limit, 1e9)
  try:
    step = jitted.lower(*args).compile()
  finally:
    jax.config.update(limit, before)
  return step, capfd.readouterr().err


def shapes(step) -> set:
  """Returns the shapes of all arrays of a compiled program, as one device has them."""
  dimensions = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", step.as_text())
  return {tuple(map(int, sizes.split(","))) for sizes in dimensions}
