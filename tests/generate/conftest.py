"""Generation compiles a lot and computes little here: XLA need not try hard."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick():
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
