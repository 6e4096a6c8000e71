"""The folders of saved steps: their names, their notes, and whether they are whole."""

import itertools
import json
from pathlib import Path

from lm import trees
from lm.disk import digest
from lm.disk.digest import Damaged

NOTE = "checkpoint.json"
STATE = "state"


class Steps:
  """The steps in a folder of checkpoints, as they are on the disk."""

  def __init__(self, folder: Path):
    self.folder = folder

  def all(self) -> list[int]:
    """Returns the saved steps in order; [] when there is no folder."""
    paths = self.folder.iterdir() if self.folder.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdecimal())

  def path(self, step: int, word: str = "") -> Path:
    """Returns the folder of a step, or "<step>.<word>" of one that does not count."""
    return self.folder / (f"{step}.{word}" if word else str(step))

  def note(self, step: int) -> dict:
    """Returns `checkpoint.json` of a step, verified; raises Damaged."""
    path = self.path(step)
    digest.check(path, only=lambda name: name == NOTE)
    note = json.loads((path / NOTE).read_text())
    if note["step"] != step:
      raise Damaged(f"it is a copy of step {note['step']}")
    return note

  def dtype(self, step: int | None, fields) -> str:
    """Returns the dtype in which a step, or the newest, has all arrays of a field.

    The field is the first of `fields` that the step has. float32 where its dtypes
    differ and where there is no step, which is reported when it is read.
    """
    step = max(self.all(), default=None) if step is None else step
    try:
      note = {"arrays": {}} if step is None else self.note(step)
    except Damaged:
      return "float32"
    field = first_field(fields, note)
    dtypes = {
      leaf.partition("[")[0]
      for path, leaf in note["arrays"].items()
      if trees.is_under(path, field)
    }
    return dtypes.pop() if len(dtypes) == 1 else "float32"

  def verify(self, step: int, fields=()) -> None:
    """Raises Damaged when a file of the step has changed.

    With `fields`, of the arrays only those of the first field that the step has count.
    """
    field = first_field(fields, self.note(step)) if fields else ""

    def is_wanted(name: str) -> bool:
      of_a_field = name.startswith(f"{STATE}/") and name.count("/") > 1
      return not field or not of_a_field or trees.is_under(name, f"{STATE}/{field}")

    digest.check(self.path(step), only=is_wanted)
    self.note(step)

  def set_aside(self, step: int) -> Path:
    """Renames a damaged step to <step>.damaged, or .damaged.2 and so on."""
    words = itertools.chain(["damaged"], (f"damaged.{n}" for n in itertools.count(2)))
    path = next(p for p in (self.path(step, w) for w in words) if not p.exists())
    self.path(step).rename(path)
    return path


def first_field(fields, note: dict) -> str:
  """Returns the first of the fields that a step has; the last if it has none."""
  stored = {path.partition("/")[0] for path in note["arrays"]}
  return next((field for field in fields if field in stored), fields[-1])
