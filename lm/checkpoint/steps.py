"""The folders of saved steps: their names, their notes, and whether they are whole."""

import itertools
import json
import math
from pathlib import Path

from lm import trees
from lm.checkpoint.arrays import MANIFEST
from lm.disk import atomic, digest
from lm.disk.digest import Damaged

NOTE = "checkpoint.json"
STATE = "state"
UNFINISHED = ("saving", "deleting")  # words of folders that a killed process left


class Steps:
  """The steps in a folder of checkpoints, as they are on the disk.

  Whatever else is there, also under a bare number, is the user's and stays as it is.
  """

  def __init__(self, folder: Path):
    self.folder = folder

  def all(self) -> list[int]:
    """Returns the saved steps in order; [] when there is no folder."""
    paths = self.folder.iterdir() if self.folder.is_dir() else ()
    return sorted(int(path.name) for path in paths if self._is_step(path))

  def _is_step(self, path: Path) -> bool:
    """True for a folder with a bare number that holds at least a part of a step."""
    return _is_number(path.name) and any(
      (path / name).exists() for name in (NOTE, digest.SUMS, STATE)
    )

  def path(self, step: int, word: str = "") -> Path:
    """Returns the folder of a step, or "<step>.<word>" of one that does not count."""
    return self.folder / (f"{step}.{word}" if word else str(step))

  def note(self, step: int) -> dict:
    """Returns `checkpoint.json` of a step, verified; raises Damaged."""
    path = self.path(step)
    digest.check(path, only=lambda name: name == NOTE)
    note = json.loads(digest.read_bytes(path, NOTE))
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
    names = digest.read(self.path(step))
    for part in {path.partition("/")[0] for path in self.note(step)["arrays"]}:
      manifest = f"{STATE}/{part}/{MANIFEST}"
      if (
        is_wanted(manifest) and manifest not in names
      ):  # of a save that lost its arrays
        raise Damaged(f"{manifest} is missing")

  def set_aside(self, step: int) -> Path:
    """Renames a damaged step to <step>.damaged, or .damaged.2 and so on."""
    words = itertools.chain(["damaged"], (f"damaged.{n}" for n in itertools.count(2)))
    path = next(p for p in (self.path(step, w) for w in words) if not p.exists())
    self.path(step).rename(path)
    return path

  def clean(self) -> None:
    """Removes the unfinished steps of a killed process."""
    for path in self.folder.iterdir():
      number, _, word = path.name.partition(".")
      if _is_number(number) and word in UNFINISHED:
        atomic.remove(path)

  def thin(self, keep: int) -> None:
    """Deletes all steps but the newest `keep` and the one of the lowest score."""
    steps = self.all()
    scores = {step: self._score(step) for step in steps}
    best = min(steps, key=lambda step: (scores[step], step))
    for step in steps[:-keep]:
      if step != best or math.isinf(scores[step]):
        self.path(step).rename(self.path(step, "deleting"))
        atomic.remove(self.path(step, "deleting"))

  def _score(self, step: int) -> float:
    """Returns the score of a step; infinity if it has none."""
    try:
      score = self.note(step)["score"]
    except Damaged:  # reported when this step is to be restored
      score = None
    return math.inf if score is None else score


def _is_number(name: str) -> bool:
  """True for the name that a step has: "7", and not "07"."""
  return name.isdecimal() and name == str(int(name))


def first_field(fields, note: dict) -> str:
  """Returns the first of the fields that a step has; the last if it has none."""
  stored = {path.partition("/")[0] for path in note["arrays"]}
  return next((field for field in fields if field in stored), fields[-1])
