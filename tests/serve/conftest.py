"""Engines that end with their test."""

import dataclasses

import pytest

from lm.serve.engine import Engine
from lm.serve.settings import Settings

NAMES = {field.name for field in dataclasses.fields(Settings)} - {"draft"}


@pytest.fixture
def make():
  """Makes engines with some settings, which are closed after the test."""
  engines = []

  def engine(*args, **options):
    values = {name: options.pop(name) for name in NAMES & options.keys()}
    engines.append(Engine(*args, settings=Settings(**values), **options))
    return engines[-1]

  yield engine
  for one in engines:
    one.close(drain_s=0)
