"""Checkpoints of a run: written in the background, verified when read.

One folder a step: `state/<field>/` (the arrays), `checkpoint.json` (everything that
defines the run) and `SHA256SUMS`. A step is written as `<step>.saving` and renamed when
all of it is on the disk and can be read; it is deleted as `<step>.deleting`. So a
folder with a bare number is whole, whenever the process was killed. Later damage on the
disk is detected by the digests when the step is read: it is set aside as
`<step>.damaged`, and the one before it is used.

Nothing else in the folder is ever changed; a link with the name of a step is removed as
a link, and what it leads to stays.

  with Checkpoints("runs/a/checkpoints", keep=3) as checkpoints:
    checkpoints.save(step, state, about={"config": config}, score=loss)
    state, step, about = checkpoints.restore(abstract)
"""

import concurrent.futures
import contextlib
import itertools
import json
import math
import os
import sys
import time

import jax
from jax.experimental import multihost_utils

from lm import trees
from lm.checkpoint import arrays
from lm.checkpoint.processes import agreed
from lm.checkpoint.steps import NOTE, STATE, Steps, first_field
from lm.disk import atomic, digest, paths
from lm.disk.digest import Damaged
from lm.errors import Mistake


def _print(line: str) -> None:
  print(line, file=sys.stderr)


class Checkpoints:
  """The checkpoints in `folder`: the newest `keep` and the one of the lowest score.

  All processes of a run make the same calls, on a file system they share. A reader
  (`owned=False`) changes nothing on the disk; only one run may own a folder at a time.
  Errors of the disk are raised as a Mistake of one line. `say` prints such a line.
  """

  def __init__(self, folder, *, keep: int = 3, owned: bool = True, say=_print):
    if keep < 1:
      raise Mistake(f"checkpoint.keep must be at least 1, got {keep}")
    self.folder = paths.local(folder).absolute()
    self._steps = Steps(self.folder)
    self._keep, self._owned, self._say = keep, owned, say
    self._primary = jax.process_index() == 0
    self._writer, self._pool, self._pending = None, None, None
    self._saves = itertools.count()
    if owned and self._primary:
      self._clean()
    if owned and jax.process_count() > 1:
      multihost_utils.sync_global_devices("lm_checkpoints_clean")

  def steps(self) -> list[int]:
    """Returns the saved steps in order; [] when there is no folder."""
    return self._steps.all()

  # writing

  def save(self, step: int, state, *, about: dict, score: float | None = None) -> None:
    """Starts to save `state` and returns once the caller may donate it.

    Waits for the previous save, and raises its error if it failed. `about` is JSON. The
    lower the `score` the better; one that is not finite counts as none. A step that
    exists is not saved again: a state is a function of its step.
    """
    assert self._owned, "a reader does not save"
    step = int(step)
    self.wait()
    if step in self.steps():
      return
    if os.path.lexists(self._steps.path(step)):
      raise Mistake(
        f"{self._steps.path(step)} is no checkpoint, and step {step} needs its name; "
        "move it away, then run the same command again"
      )
    fields = trees.by_field(state)
    note = {
      "step": step,
      "score": float(score) if score is not None and math.isfinite(score) else None,
      "arrays": trees.describe(state),
      "about": about,
    }
    self._writer = self._writer or arrays.Writer()
    self._pool = self._pool or concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    try:
      saving = self._steps.path(step, "saving")
      if self._primary:
        atomic.remove(saving)  # of a save that failed
        saving.mkdir()
      self._writer.start(self.folder, f"{saving.name}/{STATE}", fields)
    except OSError as error:
      raise self._failed(step, error) from error
    self._pending = self._pool.submit(self._commit, step, note, next(self._saves))

  def wait(self) -> None:
    """Returns when nothing is being saved; raises Mistake if the last save failed."""
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def close(self) -> None:
    """Finishes the last save, as `wait` does, and stops the thread that writes."""
    try:
      self.wait()
    finally:
      if self._writer is not None:
        self._writer.close()
        self._pool.shutdown()
      self._writer, self._pool = None, None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def _commit(self, step: int, note: dict, count: int) -> None:
    """Waits for all bytes, checks them, writes their digests, then renames.

    It runs in the thread.
    """
    saving = self._steps.path(step, "saving")
    try:
      self._writer.wait()
      if self._primary:
        arrays.check(saving / STATE, note["arrays"])
        (saving / NOTE).write_text(json.dumps(note, indent=1))
        digest.write(saving)
        saving.rename(self._steps.path(step))
        atomic.sync_folder(self.folder)
      arrays.barrier(f"lm_checkpoint_{step}_{count}")
    except Exception as error:  # whatever it was, the loop gets one line about it
      raise self._failed(step, error) from error
    if self._primary:
      self._steps.thin(self._keep)

  def _failed(self, step: int, error: Exception) -> Mistake:
    """Removes the half-written folder and returns the error for the user."""
    if self._primary:
      # Writes that did not fail may still go on, and create the folder again. If it
      # stays all the same, it counts as no step and is removed at the next start.
      saving = self._steps.path(step, "saving")
      for _ in range(20):
        with contextlib.suppress(OSError):
          atomic.remove(saving)
        time.sleep(0.05)
        if not saving.exists():
          break
    reason, advice = digest.reason(error), "make room there"
    if isinstance(error, Damaged):
      reason, advice = f"what was written cannot be read: {error}", "choose another one"
    return Mistake(
      f"could not save step {step} in {self.folder}: {reason}; the steps before it are "
      f"untouched: {advice}, then run the same command again"
    )

  def _clean(self) -> None:
    """Creates the folder, and removes the unfinished steps of a killed process."""
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      self._steps.clean()
      # Root may write to any file, but not to a file system mounted read-only.
      if not os.access(self.folder, os.W_OK):
        raise PermissionError("no permission to write there")
    except OSError as error:
      raise Mistake(
        f"cannot keep checkpoints in {self.folder}: {digest.reason(error)}; choose a "
        "folder that can be written"
      ) from error

  # reading

  def newest_good(self, step: int | None = None, *, field=()) -> int:
    """Returns the newest step without damage, after reading and checking all of it.

    With `step`, that one: Mistake if it is missing or damaged. With `field`, see
    `restore_params`, only that field's arrays are read.
    """
    names = (field,) if isinstance(field, str) else tuple(field)
    return agreed(lambda: self._choose(step, names))

  def restore(self, abstract, step: int | None = None):
    """Returns (state, step, about) of `step`, or of the newest step without damage.

    `abstract` is the state as a tree of jax.ShapeDtypeStruct; their shardings may be of
    any mesh, whatever mesh it was saved on. Raises Mistake when there is no good step,
    and when the arrays are not those of `abstract`.
    """
    self.wait()
    step = self.newest_good(step)
    note = self._steps.note(step)
    self._check_fits(step, note["arrays"], trees.describe(abstract))
    return arrays.read(self._steps.path(step) / STATE, abstract), step, note["about"]

  def restore_params(self, abstract, step=None, *, field="params", stay=False):
    """Returns (params, step, about): one field of the state, or a part of it.

    `field` may be several names: the first one that the step has is read. Leaves come
    in the dtypes of `abstract`, whichever they were saved in. The bytes of other fields
    are neither read nor checked, and leaves that `abstract` lacks are not read. With
    `stay`, leaves stay on disk until `np.asarray` is called on them.
    """
    self.wait()
    names = (field,) if isinstance(field, str) else tuple(field)
    while True:
      chosen = self.newest_good(step, field=names)
      try:
        return self._params(abstract, chosen, names, stay)
      except Exception:
        # The run that owns the folder may have deleted the step for a newer one.
        is_there = self._steps.path(chosen).is_dir()
        if is_there or step is not None or jax.process_count() > 1:
          raise

  def _params(self, abstract, step: int, names, stay: bool):
    note = self._steps.note(step)
    field = first_field(names, note)
    tree = {field: abstract}
    want = trees.describe(tree)
    have = {path: leaf for path, leaf in note["arrays"].items() if path in want}
    self._check_fits(step, trees.retyped(have, want), want)
    read = arrays.stored if stay else arrays.read
    return read(self._steps.path(step) / STATE, tree)[field], step, note["about"]

  def _check_fits(self, step: int, have: dict, want: dict) -> None:
    if difference := trees.differs(have, want):
      raise Mistake(
        f"checkpoint {self._steps.path(step)} does not fit: {difference}; use the "
        "config it was trained with"
      )

  def _choose(self, step: int | None, fields=()) -> int:
    """Returns the step to read: verified, after setting aside those that are damaged.

    With `fields`, only the bytes of the first of them that a step has are verified.
    """
    reasons, tried = [], set()
    # Listed again each time: the run that owns the folder saves and deletes meanwhile.
    while candidates := {*([step] if step is not None else self.steps())} - tried:
      candidate = max(candidates)
      tried.add(candidate)
      try:
        self._steps.verify(candidate, fields)
      except Damaged as damage:
        if step is None and not self._steps.path(candidate).is_dir():
          continue
        reasons.append(f"{candidate}: {damage}")
        if step is None:
          aside = self._steps.set_aside(candidate).name if self._owned else ""
          self._say(
            f"checkpoint {candidate} is damaged ({damage})"
            f"{aside and f'; set aside as {aside}'}"
          )
        continue
      if reasons:
        self._say(f"going on from checkpoint {candidate}, the newest without damage")
      return candidate
    raise self._nothing(step, reasons)

  def _nothing(self, step: int | None, reasons: list[str]) -> Mistake:
    """Returns the error for a step, or for a folder, without anything to restore."""
    steps = self.steps()
    if step is not None and step not in steps:
      existing = ", ".join(map(str, steps)) or "none"
      return Mistake(f"no checkpoint {step} in {self.folder}; found: {existing}")
    if reasons:
      advice = "; the same command starts anew" if self._owned and step is None else ""
      return Mistake(
        f"no good checkpoint in {self.folder} ({'; '.join(reasons)}){advice}"
      )
    return Mistake(
      f"no checkpoint in {self.folder}; train first, or name another folder"
    )
