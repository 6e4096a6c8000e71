"""Compiling in tests, listened to."""

import re

import jax


def compiled(capfd, jitted, args):
  """The compiled function, and what XLA wrote on standard error while compiling it.

  Not kept in the persistent cache: what comes from there was compiled in silence.
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
  """All shapes in a compiled program, as tuples: those of one device of a mesh."""
  found = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", step.as_text())
  return {tuple(map(int, sizes.split(","))) for sizes in found}
