"""Package metadata: pyproject.toml as setuptools reads it."""

import pathlib

import pytest
from packaging.requirements import Requirement
from setuptools.config import pyprojecttoml
from setuptools.dist import Distribution

ROOT = pathlib.Path(__file__).resolve().parents[2]
HIDDEN = "#: "  # begins a section that only launch.sh installs


@pytest.fixture(scope="module")
def distribution():
  return pyprojecttoml.apply_configuration(Distribution(), ROOT / "pyproject.toml")


def sections() -> dict:
  """Returns {section of requirements.txt: its lines without comments}."""
  lines_of, name = {}, ""
  for line in ROOT.joinpath("requirements.txt").read_text("utf-8").splitlines():
    if line.startswith("## "):
      name = line.removeprefix("## ")
    elif line.startswith(HIDDEN) or (line and not line.startswith("#")):
      lines_of.setdefault(name, []).append(line)
  return lines_of


def requirement(line: str) -> Requirement:
  line = line.removeprefix(HIDDEN).partition(" #")[0]
  return Requirement(line.partition(" --hash=")[0])


def test_the_dependencies_are_the_library_section(distribution):
  expected = [requirement(line) for line in sections()["library"]]
  assert [Requirement(line) for line in distribution.install_requires] == expected
  assert "jax" in {dependency.name for dependency in expected}


def test_all_other_sections_are_hidden_from_pip():
  for name, lines in sections().items():
    assert [line.startswith(HIDDEN) for line in lines] == [name != "library"] * len(
      lines
    )
    assert all(requirement(line).name for line in lines)


def test_every_folder_of_lm_is_a_package_and_nothing_else(distribution):
  folders = {path.parent for path in ROOT.joinpath("lm").rglob("*.py")}
  names = {".".join(path.relative_to(ROOT).parts) for path in folders}
  assert set(distribution.packages) == names


def test_lm_holds_nothing_but_modules_and_what_is_installed_with_them(distribution):
  """Guards the installation: other files need package-data in pyproject.toml."""
  files = {path for path in ROOT.joinpath("lm").rglob("*") if path.is_file()}
  installed = {
    path
    for package, patterns in distribution.package_data.items()
    for pattern in patterns
    for path in ROOT.joinpath(*package.split(".")).glob(pattern)
  }
  assert {p.suffix for p in installed} == {".html", ".yaml", ".jsonl", ".md"}
  others = {p for p in files - installed if "__pycache__" not in p.parts}
  assert {path.suffix for path in others} == {".py"}


def test_the_metadata(distribution):
  metadata = distribution.metadata
  assert (metadata.name, distribution.python_requires) == ("lm", ">=3.11")
  assert metadata.license_expression == "Apache-2.0"
  text = ROOT.joinpath(*metadata.license_files).read_text("utf-8")
  assert "Apache License" in text
  assert "The lm authors" in text
  assert metadata.long_description == ROOT.joinpath("README.md").read_text("utf-8")
