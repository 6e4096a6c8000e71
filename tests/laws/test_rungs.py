"""Ladder of imports: a file of lm/ imports from lower rungs or its own folder.

To place a new file or folder of lm/, add its name to RUNGS; the flow in README.md says
where it belongs.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNGS = (
  {"errors", "trees", "rng"},
  {"letters", "platform", "lookup", "disk"},
  {"log", "nn", "data", "metrics", "scores"},
  {"models", "optim"},
  {"objectives", "generate", "checkpoint", "adapt"},
  {"stores", "evaluate"},
  {"tasks"},
  {"train"},
  {"study", "plan", "serve", "compress"},
)
# lm/ is a library for notebooks: no flags, no configs, no second framework.
FOREIGN = {"absl", "ml_collections", "torch", "transformers", "tensorflow"} | {
  "experiments",
  "configs",
  "benchmarks",
  "tests",
}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def imports(path, root):
  """Yields the modules that a file imports anywhere, as "lm.x.y" down to the file."""
  package = path.relative_to(root).parent.parts
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) + 1 - node.level] if node.level else ()
      module = ".".join([*above, *filter(None, [node.module])])
      for alias in node.names:
        inner = pathlib.Path(root, module.replace(".", "/"), alias.name)
        is_module = inner.is_dir() or inner.with_suffix(".py").exists()
        yield f"{module}.{alias.name}" if is_module else module


def graph(root):
  """Returns {module of lm: modules that it imports}, sorted by name."""
  imports_of = {}
  for path in sorted(pathlib.Path(root, "lm").rglob("*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    imports_of[name] = sorted(set(imports(path, root)))
  return imports_of


def rung(name):
  """Returns the rung of a module by its top name ("nn" of lm.nn.masks), or None."""
  top = name.split(".")[1]
  return next((i for i, names in enumerate(RUNGS) if top in names), None)


def breaches(root):
  """Yields a line for each import that a file of lm/ under `root` must not have."""
  modules = graph(root)
  for name, imported in modules.items():
    if name == "lm":
      continue  # lm/__init__.py may import every module
    if rung(name) is None:
      yield f"{name} has no rung; add it to RUNGS in tests/laws/test_rungs.py"
      continue
    for target in imported:
      wrong = _wrong(name, target)
      if wrong:
        yield f"{name} imports {target}, {wrong}"
    reached = _reached(modules, name) & JAX
    if name.startswith("lm.data") and name != "lm.data.loader" and reached:
      yield f"{name} reaches {min(reached)}; lm/data is numpy only, but for its loader"


def _wrong(name, target):
  if target.split(".")[0] in FOREIGN:
    return "which no file of lm/ may"
  if not target.startswith("lm."):
    return ""
  if rung(target) is None:
    return "which has no rung"
  own_parts, parts = name.split("."), target.split(".")
  if own_parts[1] == parts[1]:
    family = own_parts[1] == "models" and target not in (name, "lm.models")
    return "another family" if family else ""
  return (
    "" if rung(target) < rung(name) else f"of rung {rung(target)}, from {rung(name)}"
  )


def _reached(modules, name, visited=None):
  """Returns the top names of all modules that importing `name` imports."""
  visited = set() if visited is None else visited
  for target in modules.get(name, ()):
    if target not in visited:
      visited.add(target)
      _reached(modules, target, visited)
  return {target.split(".")[0] for target in visited}


def test_no_arrow_points_back():
  lines = list(breaches(ROOT))
  assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
  "path, line, breach",
  [
    ("lm/nn/masks.py", "from lm import train", "imports lm.train, of rung 7, from 2"),
    (
      "lm/nn/masks.py",
      "def f():\n  import lm.models.a",
      "imports lm.models.a, of rung",
    ),
    ("lm/evaluate.py", "from lm.train import x", "imports lm.train, of rung 7"),
    (
      "lm/models/a.py",
      "from lm.models import b",
      "imports lm.models.b, another family",
    ),
    (
      "lm/letters.py",
      "from absl import flags",
      "imports absl, which no file of lm/ may",
    ),
    ("lm/rng.py", "import torch.nn", "imports torch.nn, which no file"),
    ("lm/rng.py", "import tensorflow as tf", "imports tensorflow, which no file"),
    ("lm/nn/masks.py", "from .. import train", "imports lm.train, of rung 7, from 2"),
    ("lm/models/a.py", "from .b import x", "imports lm.models.b, another family"),
    (
      "lm/data/pack.py",
      "import jax.numpy as jnp",
      "reaches jax; lm/data is numpy only",
    ),
    ("lm/data/pack.py", "from lm import letters", "reaches jax; lm/data is numpy only"),
    ("lm/data/pack.py", "from lm.data import loader", "reaches jax"),
    ("lm/misc.py", "", "lm.misc has no rung"),
    ("lm/nn/masks.py", "from . import norms", ""),
    ("lm/nn/masks.py", "from ..letters import spec", ""),
    ("lm/data/loader.py", "import jax", ""),
    ("lm/models/a.py", "import tensorflow_datasets", ""),
    ("lm/models/a.py", "from lm.models import x", ""),
    ("lm/__init__.py", "from lm import train", ""),
  ],
)
def test_a_planted_arrow_is_seen(tmp_path, path, line, breach):
  modules = (
    "letters",
    "rng",
    "train",
    "evaluate",
    "nn/masks",
    "nn/__init__",
    "models/a",
  )
  files = dict.fromkeys((f"lm/{x}.py" for x in (*modules, "models/b")), "")
  files |= {"lm/letters.py": "import jax", "lm/data/loader.py": "import jax"}
  for name, text in (files | {path: line}).items():
    tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
    tmp_path.joinpath(name).write_text(text)
  lines = list(breaches(tmp_path))
  assert len(lines) == bool(breach)
  assert all(breach in line for line in lines)
