"""Alphabet of shapes: a rare letter is used only in the files of its meaning."""

import ast
import pathlib
import re

import pytest

from lm.letters import LETTERS, RULES

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = re.compile(r"(?:[a-z0-9]+_)+([A-Z1]+)")
EQUATION = re.compile(r"[A-Z]+,[A-Z]+->[A-Z]*")
# Where the letters of single leaves and families may be used, as starts of paths. All
# others mean the same in every file.
ROOMS = {
  "A": "models/electra models/seq2seq",
  "C": "models nn/task_heads objectives generate/ scores tasks evaluate study",
  "E": "nn/experts nn/linear nn/quantised nn/equations adapt",
  "I": "nn/recurrent",
  "J": "nn/ssd models/mamba2",
  "K": "nn/attention models generate compress/heads",
  "M": "nn/ssd models/mamba2",
  "U": "nn/positions/relative",
  "W": "models/mamba2 objectives",
  "X": "nn/experts",
  "Y": "generate objectives",
  "Z": "generate",
}


def letters_in(text):
  """Returns {letter: a name or an equation} of the suffixes and einsums of a file."""
  name_of_letter = {}
  for node in ast.walk(ast.parse(text)):
    for field in ("id", "arg", "attr"):
      name = getattr(node, field, None)
      if isinstance(name, str) and (match := NAME.fullmatch(name)):
        name_of_letter |= dict.fromkeys(match[1].replace("1", ""), name)
    text = node.value if isinstance(node, ast.Constant) else None
    if isinstance(text, str) and EQUATION.fullmatch(text):
      name_of_letter |= dict.fromkeys(set(text) - set(",->"), text)
  return name_of_letter


def misplaced(path, text):
  """Yields a line for each letter of a file of lm/ outside the files of its meaning."""
  for letter, name in sorted(letters_in(text).items()):
    if not path.startswith(tuple(ROOMS.get(letter, "").split()) or ""):
      yield f"{path}: {name}, and {letter} is {LETTERS[letter]}"


def test_rare_letters_stay_in_their_rooms():
  files = sorted(ROOT.joinpath("lm").rglob("*.py"))
  text = lambda path: path.read_text("utf-8")
  path_of = lambda path: str(path.relative_to(ROOT / "lm"))
  lines = [line for path in files for line in misplaced(path_of(path), text(path))]
  assert not lines, "\n".join(lines)


def test_rules_and_rooms_know_the_legend():
  assert {letter for letter, _ in RULES} | set(ROOMS) <= set(LETTERS)


@pytest.mark.parametrize(
  "path, text, wrong",
  [
    ("nn/layers.py", "def f(x_BTM): return x_BTM", "x_BTM, and M is state size"),
    ("optim/muon.py", "z = einsum('IR,RJ->IJ', x, y)", "I is gates"),
    ("nn/ssd.py", "state_BJM = x_B1D", ""),
    ("nn/layers.py", "SIZE, _NAME, y_BTD = 1, 2, 3", ""),
  ],
)
def test_a_planted_stranger_is_seen(path, text, wrong):
  lines = "\n".join(misplaced(path, text))
  assert wrong in lines and bool(wrong) == bool(lines)
