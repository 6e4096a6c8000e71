"""Which rows an objective trains on: text as it is, or that of some corruptions."""

import dataclasses
import sys

import pytest

from lm import lookup, objectives
from lm.data.rows import corrupt

CORRUPT = "lm.data.rows.corrupt"


@pytest.mark.parametrize("objective, name, message", [
  ("masked_lm", "", "wanted a data.corrupt.name of masked$"),
  ("masked_lm", "spans", "wanted a data.corrupt.name of masked$"),
  ("seq2seq", "", "wanted a data.corrupt.name of prefix or spans$"),
  ("next_token", "masked", "wanted no data.corrupt, or the objective distill or mask"),
])  # fmt: skip
def test_an_objective_and_a_corruption_must_fit(objective, name, message):
  with pytest.raises(ValueError, match=message):
    objectives.check_rows(objective, {"name": name})


def test_every_corruption_that_is_named_exists_and_is_named():
  named = {}
  for name in lookup.functions("lm.objectives"):
    named[name] = objectives.corruptions(name)
    for corruption in named[name]:
      objectives.check_rows(name, {"name": corruption})
  given = {c for names in named.values() for c in names if c}  # "" is text as it is
  assert given == set(lookup.names(CORRUPT))
  assert named["next_token"] == named["glove"] == ()


@pytest.fixture
def holes(tmp_path, monkeypatch):
  """A corruption in a file of its own, which `next_token` can train on."""
  (tmp_path / "holes.py").write_text(
    "import dataclasses\n"
    "from lm.data.rows import corrupt\n\n"
    "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
    "class Corruption(corrupt.Corruption):\n"
    "  objectives = ('next_token',)\n"
  )
  monkeypatch.setattr(corrupt, "__path__", [*corrupt.__path__, str(tmp_path)])
  yield "holes"
  sys.modules.pop(f"{CORRUPT}.holes", None)


def test_a_corruption_names_objectives_of_text_too(holes):
  assert dataclasses.is_dataclass(corrupt.make({"name": holes}))
  objectives.check_rows("next_token", {"name": holes})
  objectives.check_rows("next_token", {})  # which still reads text as it is
  with pytest.raises(ValueError, match=r"wanted a data.corrupt.name of masked$"):
    objectives.check_rows("masked_lm", {"name": holes})
  with pytest.raises(ValueError, match=r"wanted a data.corrupt.name of holes$"):
    objectives.check_rows("next_token", {"name": "masked"})
