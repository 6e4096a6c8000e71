"""Notebook: it runs alone, without outputs in the repository, and shows its results."""

import ast
import base64
import io
import pathlib
import re

import matplotlib.image
import nbformat
import pytest
from nbclient import NotebookClient

import lm

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATH = ROOT / "experiments" / "notebooks" / "first_model.ipynb"
# The library's dependencies and matplotlib; no flags and no configs.
IMPORTS = {"lm", "jax", "numpy", "matplotlib", "optax", "sys"}


def code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
  """Returns (the notebook with its outputs, the folder in place of the repository)."""
  root = tmp_path_factory.mktemp("repository")
  folder = root / PATH.parent.relative_to(ROOT)
  folder.mkdir(parents=True)
  (root / "lm").symlink_to(ROOT / "lm")
  notebook = nbformat.read(PATH, as_version=4)
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("MPLBACKEND")  # the kernel's backend puts pictures into the outputs
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
      patch.setenv(name, str(root / name))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
  return notebook, root


@pytest.fixture(scope="module")
def outputs(executed):
  return [output for cell in code_cells(executed[0]) for output in cell.outputs]


@pytest.fixture(scope="module")
def printed(outputs):
  return "".join(o["text"] for o in outputs if o.get("name") == "stdout")


def test_it_is_kept_without_outputs():
  for cell in code_cells(nbformat.read(PATH, as_version=4)):
    assert not cell.outputs and cell.execution_count is None


def test_it_imports_the_library_and_little_else():
  sources = [cell.source for cell in code_cells(nbformat.read(PATH, as_version=4))]
  text = "\n".join(re.sub(r"^%.*$", "", source, flags=re.M) for source in sources)
  imported = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      imported |= {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      imported.add(node.module.split(".")[0])
  assert imported == IMPORTS


def test_it_runs_without_a_warning(outputs):
  assert not [o["text"] for o in outputs if o.get("name") == "stderr"]


def test_the_table_has_the_parameters(printed):
  assert re.search(r"^embed/table +VD +384x64 +float32$", printed, re.M)
  assert re.search(r"^[\d,]+ parameters$", printed, re.M)


def test_it_learns(printed):
  [(first, final)] = re.findall(r"([\d.]+) at first, ([\d.]+) in the end", printed)
  assert float(final) < 0.1 * float(first)


def test_it_generates_the_rhyme(printed):
  assert "\nThis is the dog that worried the cat that" in printed


def test_its_pictures_are_in_the_outputs(outputs):
  pictures = [
    o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})
  ]
  curve, attention = (
    matplotlib.image.imread(io.BytesIO(base64.b64decode(png))) for png in pictures
  )
  for picture in (curve, attention):
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05  # not blank


def test_the_model_it_saves_is_a_run(executed):
  model, params, tokenizer = lm.load(executed[1] / "runs" / "first_model")
  assert model.config.width == params["norm"]["scale"].shape[0] == 64
  assert tokenizer.decode(tokenizer.encode("the rat")) == "the rat"
