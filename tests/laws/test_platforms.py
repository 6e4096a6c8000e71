"""Platform names: only platform.py, nn/cpu.py and attention backends have them."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLATFORMS = {"cpu", "gpu", "tpu", "cuda", "rocm"}
ROOMS = ("platform.py", "nn/cpu.py", "nn/narrow/", "nn/attention/backends/", "plan/")


def named(path, text):
  """Yields a line for each platform that a file of lm/ names and must not."""
  for node in ast.walk(ast.parse(text)):
    is_platform = isinstance(node, ast.Constant) and node.value in PLATFORMS
    if is_platform and not path.startswith(ROOMS):
      yield f"{path}:{node.lineno}: {node.value!r}"


def test_models_and_training_know_no_platform():
  lines = []
  for path in sorted(ROOT.joinpath("lm").rglob("*.py")):
    name = str(path.relative_to(ROOT / "lm"))
    lines += named(name, path.read_text("utf-8"))
  assert not lines, "\n".join(lines)


@pytest.mark.parametrize("path, count", [("nn/layers.py", 1), ("nn/cpu.py", 0)])
def test_a_planted_name_is_seen(path, count):
  assert len(list(named(path, "if target() == 'tpu': pass"))) == count
