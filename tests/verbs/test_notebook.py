"""Notebook: it runs alone, without outputs in the repository, and shows its results."""

import re

import notebooks
import pytest

import lm

NAME = "first_model"
# The library's dependencies and matplotlib; no flags and no configs.
IMPORTS = {"lm", "jax", "numpy", "matplotlib", "optax", "sys"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
  """Returns (the notebook with its outputs, the folder in place of the repository)."""
  root = tmp_path_factory.mktemp("repository")
  return notebooks.execute({NAME: {}}, root)[NAME], root


@pytest.fixture(scope="module")
def printed(executed):
  return notebooks.printed(executed[0])


def test_it_is_kept_without_outputs():
  for cell in notebooks.code_cells(notebooks.read(NAME)):
    assert not cell.outputs and cell.execution_count is None


def test_it_imports_the_library_and_little_else():
  assert notebooks.imports(notebooks.read(NAME)) == IMPORTS


def test_it_runs_without_a_warning(executed):
  assert not notebooks.printed(executed[0], "stderr")


def test_the_table_has_the_parameters(printed):
  assert re.search(r"^embed/table +VD +384x64 +float32$", printed, re.M)
  assert re.search(r"^[\d,]+ parameters$", printed, re.M)


def test_it_learns(printed):
  [(first, final)] = re.findall(r"([\d.]+) at first, ([\d.]+) in the end", printed)
  assert float(final) < 0.1 * float(first)


def test_it_generates_the_rhyme(printed):
  assert "\nThis is the dog that worried the cat that" in printed


def test_its_pictures_are_in_the_outputs(executed):
  curve, attention = notebooks.pictures(executed[0])
  for picture in (curve, attention):
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05  # not blank


def test_the_model_it_saves_is_a_run(executed):
  model, params, tokenizer = lm.load(executed[1] / "runs" / "first_model")
  assert model.config.width == params["norm"]["scale"].shape[0] == 64
  assert tokenizer.decode(tokenizer.encode("the rat")) == "the rat"
