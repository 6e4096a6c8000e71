"""Optimisers and schedules as files: new files are found, documented examples run."""

import doctest
import importlib

import jax.numpy as jnp
import pytest

from lm import lookup, optim
from lm.errors import Mistake
from lm.optim import adafactor, muon, rules, schedules

SIGN = """import optax

def {name}(letters, betas=()):
  assert letters == {{"up": "LDF"}}
  return optax.scale_by_sign()
"""
STEPS = """def {name}(lr, warmup, num_steps, final):
  return lambda step: lr / 2
"""


def planted(monkeypatch, package, folder, text):
  """Returns the name of a new file with `text`, in a folder added to the package."""
  name = f"planted_{folder.name}"
  (folder / f"{name}.py").write_text(text.format(name=name))
  monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
  importlib.invalidate_caches()
  return name


def test_a_new_file_is_a_new_optimiser_and_a_new_schedule(monkeypatch, tmp_path):
  for name in ("optimiser", "schedule"):
    (tmp_path / name).mkdir()
  name = planted(monkeypatch, optim, tmp_path / "optimiser", SIGN)
  schedule = planted(monkeypatch, schedules, tmp_path / "schedule", STEPS)
  params, letters = {"up": jnp.ones((1, 2, 3))}, {"up": "LDF"}
  settings = optim.Optim(name, lr=0.5, schedule=schedule, decay=0.0, clip=0.0)
  tx, _ = optim.make(settings, num_steps=2, params=params, letters=letters)
  updates, _ = tx.update(params, tx.init(params), params)
  assert (updates["up"] == -0.25).all()


def test_helpers_are_no_optimisers():
  assert list(lookup.functions("lm.optim")) == ["adafactor", "adamw", "lion", "muon"]
  with pytest.raises(Mistake, match="no 'rules' in lm/optim"):
    optim.Optim("rules")


@pytest.mark.parametrize("module", [optim, adafactor, muon, rules])
def test_examples_of_docstrings_hold(module):
  results = doctest.testmod(module)
  assert results.attempted and not results.failed
