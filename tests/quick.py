"""Compiling in tests: fast, or listened to.

`jit` compiles in a fraction of the time on a CPU, for code that is slower.

Most of the time of a test with tiny shapes is XLA's. An equality between two ways to
compute does not depend on how well LLVM optimises either. Measured on the gradient of a
two-layer decoder: 3.9 s of CPU time become 0.5 s (1.9 s with jax 0.12).
"""

import functools
import re

import jax

OPTIONS = {"xla_backend_optimization_level": "0"}
if jax.__version_info__ < (0, 11):  # later ones have no such option
  OPTIONS["xla_cpu_use_fusion_emitters"] = False

jit = functools.partial(jax.jit, compiler_options=OPTIONS)


def compiled(capfd, function, args, **how):
  """The compiled function, and what XLA wrote on standard error while compiling it.

  Not kept in the persistent cache: what comes from there was compiled in silence.
  """
  limit = "jax_persistent_cache_min_compile_time_secs"
  before = jax.config.values[limit]
  capfd.readouterr()
  jax.config.update(limit, 1e9)
  try:
    step = jit(function, **how).lower(*args).compile()
  finally:
    jax.config.update(limit, before)
  return step, capfd.readouterr().err


def shapes(step) -> set:
  """All shapes in a compiled program, as tuples: those of one device of a mesh."""
  found = re.findall(r"\b[a-z]+\d*\[([\d,]+)\]", step.as_text())
  return {tuple(map(int, sizes.split(","))) for sizes in found}
