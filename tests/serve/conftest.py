"""Engines that end with their test."""

import pytest

from lm.serve.engine import Engine


@pytest.fixture
def make():
  """Makes engines, which are closed after the test."""
  engines = []

  def engine(*args, **options):
    engines.append(Engine(*args, **options))
    return engines[-1]

  yield engine
  for one in engines:
    one.close(drain_s=0)
