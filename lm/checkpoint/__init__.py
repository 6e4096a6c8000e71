"""Checkpoints of a run: written in the background, whole or not at all, never believed.

One folder a step: `state/<field>/` (the arrays), `checkpoint.json` (everything that
defines the run) and `SHA256SUMS`. A step is written as `<step>.saving` and renamed when
all of it is on the disk; it is deleted as `<step>.deleting`. So a folder with a bare
number is whole, whenever the process was killed. What the disk does to it later is
found by the digests when it is read: the step is set aside as `<step>.damaged`, and the
one before it is used.
"""

import concurrent.futures
import itertools
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from lm.checkpoint import arrays
from lm.disk import digest
from lm.disk.digest import Damaged
from lm.errors import Mistake

_NOTE = "checkpoint.json"
_STATE = "state"
_say = lambda line: print(line, file=sys.stderr)


class Checkpoints:
  """The checkpoints in `folder`: the newest `keep` and the one of the lowest score.

  All processes of a run make the same calls, on a file system they share. A reader
  (`owned=False`) changes nothing on the disk; only one run may own a folder at a time.
  Errors of the disk come as one Mistake: what was wanted, what came, what to do.
  """

  def __init__(self, folder, *, keep: int = 3, owned: bool = True, say=_say):
    if keep < 1:
      raise Mistake(f"checkpoint.keep must be at least 1, got {keep}")
    if "://" in str(folder):
      raise Mistake(
        f"checkpoints need a folder of a mounted file system, got {folder}; mount it "
        "and give the folder's path"
      )
    self.folder = Path(folder).absolute()
    self._keep, self._owned, self._say = keep, owned, say
    self._primary = jax.process_index() == 0
    self._writer, self._pool, self._pending = None, None, None
    self._saves = itertools.count()
    if owned and self._primary:
      self._clean()
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("lm_checkpoints_clean")

  def steps(self) -> list[int]:
    """The steps that were saved whole, in order; none when there is no folder."""
    found = self.folder.iterdir() if self.folder.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal())

  # writing

  def save(self, step: int, state, *, about: dict, score: float | None = None) -> None:
    """Starts to save `state` and returns once the caller may donate it.

    Waits for the save before, and raises what that one met. `about` is JSON. The lower
    the `score` the better; one that is not finite counts as none. A step that exists is
    not saved again: a state is a function of its step.
    """
    assert self._owned, "a reader does not save"
    step = int(step)
    self.wait()
    if step in self.steps():
      return
    leaves_of = arrays.parts(state)
    note = {
      "step": step,
      "score": float(score) if score is not None and math.isfinite(score) else None,
      "arrays": arrays.describe(leaves_of),
      "about": about,
    }
    text = json.dumps(note, indent=1)
    self._writer = self._writer or arrays.Writer()
    self._pool = self._pool or concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    try:
      saving = self._path(step, "saving")
      if self._primary:
        shutil.rmtree(saving, ignore_errors=True)  # of a save that failed
        saving.mkdir()
      self._writer.start(saving / _STATE, leaves_of)
    except OSError as error:
      raise self._failed(step, error) from error
    self._pending = self._pool.submit(self._commit, step, text, next(self._saves))

  def wait(self) -> None:
    """Returns when nothing is being saved; Mistake if the last save failed."""
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def close(self) -> None:
    """Finishes the last save, as `wait`, and stops the thread that does it."""
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

  def _commit(self, step: int, text: str, count: int) -> None:
    """Runs in the thread: all bytes on the disk, their digests, then the rename."""
    saving = self._path(step, "saving")
    try:
      self._writer.wait()
      if self._primary:
        (saving / _NOTE).write_text(text)
        digest.write(saving)
        saving.rename(self._path(step))
        digest.sync_folder(self.folder)
      arrays.barrier(f"lm_checkpoint_{step}_{count}")
    except Exception as error:  # whatever it was, the loop gets one line about it
      raise self._failed(step, error) from error
    if self._primary:
      self._thin()

  def _failed(self, step: int, error: Exception) -> Mistake:
    """The line for the user; also takes the half-written folder away."""
    if self._primary:
      # The writes that did not fail may still go on, and make the folder anew. What
      # stays all the same is no step, and is cleaned at the next start.
      saving = self._path(step, "saving")
      for _ in range(20):
        shutil.rmtree(saving, ignore_errors=True)
        time.sleep(0.05)
        if not saving.exists():
          break
    return Mistake(
      f"could not save step {step} in {self.folder}: {digest.reason(error)}; the steps "
      "before it are untouched: make room there, then run the same command again"
    )

  def _thin(self) -> None:
    steps = self.steps()
    scores = {step: self._score(step) for step in steps}
    best = min(steps, key=lambda step: (scores[step], step))
    for step in steps[: -self._keep]:
      if step != best or math.isinf(scores[step]):
        self._path(step).rename(self._path(step, "deleting"))
        shutil.rmtree(self._path(step, "deleting"))

  def _score(self, step: int) -> float:
    try:
      score = self._note(step)["score"]
    except Damaged:  # it will be noticed and said when somebody wants this step
      score = None
    return math.inf if score is None else score

  def _clean(self) -> None:
    """Makes the folder, and removes what a killed process left half done."""
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      for path in self.folder.iterdir():
        number, _, word = path.name.partition(".")
        if number.isdecimal() and word in ("saving", "deleting"):
          shutil.rmtree(path)
      # Root may write to any file, but not to a file system mounted read-only.
      if not os.access(self.folder, os.W_OK):
        raise PermissionError("no permission to write there")
    except OSError as error:
      raise Mistake(
        f"cannot keep checkpoints in {self.folder}: {digest.reason(error)}; choose a "
        "folder that can be written"
      ) from error

  # reading

  def good(self, step: int | None = None, field: str = "") -> int:
    """The step that would be restored, after reading and checking all of it."""
    return self._agreed(lambda: self._choose(step, field))

  def restore(self, abstract, step: int | None = None):
    """(state, step, about) of `step`, or of the newest step without damage.

    `abstract` is the state as a tree of jax.ShapeDtypeStruct; their shardings may be of
    any mesh, whatever mesh it was saved on. Raises Mistake when nothing good is
    there, and when the arrays are not those of `abstract`.
    """
    return self._restore(abstract, step)

  def restore_params(self, abstract, step=None, *, field="params", stay=False):
    """(params, step, about): one field of the state, whatever the others are made of.

    Neither reads nor checks the bytes of the others. What is to `stay` on the disk is
    read when `np.asarray` is called on a leaf, and not kept.
    """
    tree, step, about = self._restore({field: abstract}, step, field, stay=stay)
    return tree[field], step, about

  def _restore(self, abstract, step, field="", *, stay=False):
    self.wait()
    step = self.good(step, field)
    note = self._note(step)
    if differs := arrays.mismatch(note["arrays"], abstract, field):
      raise Mistake(
        f"checkpoint {self._path(step)} does not fit: {differs}; use the config it was "
        "trained with"
      )
    read = arrays.stored if stay else arrays.read
    return read(self._path(step) / _STATE, abstract), step, note["about"]

  def _choose(self, step: int | None, field: str) -> int:
    """The step to read: verified, after setting aside those that are damaged."""
    asked = [step] if step is not None else self.steps()[::-1]
    reasons = []
    for each in asked:
      try:
        self._verify(each, field)
      except Damaged as damage:
        reasons.append(f"{each}: {damage}")
        if step is None and self._path(each).is_dir():
          self._say(f"checkpoint {each} is damaged ({damage}){self._set_aside(each)}")
        continue
      if reasons:
        self._say(f"going on from checkpoint {each}, the newest without damage")
      return each
    raise self._nothing(step, reasons)

  def _verify(self, step: int, field: str) -> None:
    def wanted(name: str) -> bool:
      inside = name.startswith(f"{_STATE}/") and name.count("/") > 1
      return not field or not inside or arrays.within(name, f"{_STATE}/{field}")

    digest.check(self._path(step), only=wanted)
    self._note(step)

  def _set_aside(self, step: int) -> str:
    if not self._owned:
      return ""
    names = itertools.chain(["damaged"], (f"damaged.{n}" for n in itertools.count(2)))
    path = next(p for p in (self._path(step, w) for w in names) if not p.exists())
    self._path(step).rename(path)
    return f"; set aside as {path.name}"

  def _note(self, step: int) -> dict:
    """`checkpoint.json` of a step, verified; raises Damaged."""
    path = self._path(step)
    digest.check(path, only=lambda name: name == _NOTE)
    note = json.loads((path / _NOTE).read_text())
    if note["step"] != step:
      raise Damaged(f"it is a copy of step {note['step']}")
    return note

  def _nothing(self, step: int | None, reasons: list[str]) -> Mistake:
    steps = self.steps()
    if step is not None and step not in steps:
      found = ", ".join(map(str, steps)) or "none"
      return Mistake(f"no checkpoint {step} in {self.folder}; found: {found}")
    if reasons:
      anew = "; the same command starts anew" if self._owned and step is None else ""
      told = "; ".join(reasons)
      return Mistake(f"no good checkpoint in {self.folder} ({told}){anew}")
    return Mistake(
      f"no checkpoint in {self.folder}; train first, or name another folder"
    )

  def _agreed(self, choose) -> int:
    """What `choose` returns on process 0, on all of them."""
    if jax.process_count() == 1:
      return choose()
    step, error = -1, None
    if self._primary:
      try:
        step = choose()
      except ValueError as refusal:
        error = refusal
    step = int(multihost_utils.broadcast_one_to_all(np.int32(step)))
    if step < 0:
      raise error or Mistake("no checkpoint to restore; process 0 says why")
    return step

  def _path(self, step: int, word: str = "") -> Path:
    return self.folder / (f"{step}.{word}" if word else str(step))
