"""Notebooks of experiments/notebooks: read, executed, and their outputs."""

import ast
import base64
import io
import pathlib
import re

import matplotlib.image
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "experiments" / "notebooks"
TAG = "parameters"  # of the cell whose values others may follow; papermill's name
EMPTY = "%reset -f"  # the next notebook finds no names of the last one


def read(name: str):
  return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(values, folder) -> dict:
  """Returns {name: notebook with its outputs}, executed in one kernel in this order.

  `values` are, by the name of the notebook, those to assign after its parameters;
  `folder` becomes one like the repository.
  """
  place = folder / FOLDER.relative_to(ROOT)
  place.mkdir(parents=True)
  (folder / "lm").symlink_to(ROOT / "lm")
  executed, cells = {name: read(name) for name in values}, []
  for name, notebook in executed.items():
    lines = [f"\n{key} = {value!r}" for key, value in values[name].items()]
    for cell in notebook.cells:
      cell.id = f"{name}-{cell.id}"
      cell.source += "".join(lines) if TAG in cell.metadata.get("tags", ()) else ""
    cells += [*notebook.cells, nbformat.v4.new_code_cell(EMPTY)]
  joined = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("MPLBACKEND")  # the kernel's backend puts pictures into the outputs
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
      patch.setenv(name, str(folder / name))
    resources = {"metadata": {"path": str(place)}}
    NotebookClient(joined, timeout=600, resources=resources).execute()
  return executed


def imports(notebook) -> set[str]:
  """Returns the packages that a notebook imports."""
  sources = [cell.source for cell in code_cells(notebook)]
  text = "\n".join(re.sub(r"^%.*$", "", source, flags=re.M) for source in sources)
  names = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names |= {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.split(".")[0])
  return names


def outputs(notebook) -> list:
  return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook, stream="stdout") -> str:
  return "".join(o["text"] for o in outputs(notebook) if o.get("name") == stream)


def pictures(notebook) -> list:
  """Returns the pictures in the outputs, as arrays with colours last."""
  data = [o["data"] for o in outputs(notebook) if "image/png" in o.get("data", {})]
  return [
    matplotlib.image.imread(io.BytesIO(base64.b64decode(x["image/png"]))) for x in data
  ]
