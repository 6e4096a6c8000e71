"""Cleaning as stages of independent tasks, with whole files between them.

  clean   (a chunk)           documents rewritten and judged by themselves; their keys
  pairs   (a range of keys)   who may repeat whom, see duplicates.py
  verify  (a chunk)           who repeats whom
  decide  (all)               who goes, and the reports

A task is a function of its number and of files of earlier stages, and writes files of
its own. Its note is written last: a task without one did not run. So any process may
run any task of a stage, in any order, and a job that was killed goes on.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from lm.data import clean as cleaning
from lm.data.clean import dedup, documents
from lm.data.corpus import cleaned, duplicates
from lm.data.sources import _records
from lm.disk import atomic

SPLITS = ("train", "heldout")
KEYS_BYTES = 64 << 20  # of keys that one task of `pairs` holds
OPEN = 64  # chunks whose arrays a process holds open
COMPARED = 256  # documents whose shingles it holds,
SHORT = 1 << 16  # of so many characters at most


@dataclass(frozen=True)
class Job:
  """The cleaning of the chunks of a source, in a folder, by rules."""

  folder: Path
  rules: cleaning.Rules
  num_chunks: int
  num_parts: int = 0  # tasks of "pairs", known once the chunks are clean
  lowest: int | None = None  # the number of the only document to hold out, if it is one

  def __getstate__(self) -> dict:
    """Returns what is sent to another process: the fields, and nothing that is open."""
    return {field.name: getattr(self, field.name) for field in fields(self)}

  def with_parts(self) -> "Job":
    """Returns this job with its `num_parts`, once all chunks are clean."""
    notes = (self.note("clean", number) for number in range(self.num_chunks))
    num_bytes = sum(note["keys"] for note in notes) * duplicates.KEY.itemsize
    return replace(self, num_parts=-(-num_bytes // KEYS_BYTES))

  @functools.cached_property
  def reader(self):
    """A function from a split and a chunk to its cleaned.Reader."""
    return functools.lru_cache(OPEN)(self._reader)

  @functools.cached_property
  def kept_rows(self):
    """A function from a split and a chunk to the rows that stay, after `decide`."""
    return functools.lru_cache(OPEN)(self._kept_rows)

  @functools.cached_property
  def _short_shingles(self):
    return functools.lru_cache(COMPARED)(self._shingles)

  @property
  def signs(self) -> bool:
    """True if documents are compared with others."""
    return self.rules.dedup != "off"

  def note(self, stage: str, number: int) -> dict | None:
    """Returns what a task has noted, None before it is done."""
    path = self._file(stage, number, "json")
    return json.loads(path.read_bytes()) if path.is_file() else None

  def run(self, stage: str, task) -> dict:
    """Does a task unless it is done; returns its note.

    A task is a number; in the stage "clean" (a number, its chunk).
    """
    number = _number(stage, task)
    note = self.note(stage, number)
    if note is not None:
      return note
    self._folder(stage).mkdir(parents=True, exist_ok=True)
    note = getattr(self, f"_{stage}")(*(task if stage == "clean" else (task,)))
    data = json.dumps(note).encode("utf-8", "backslashreplace")
    atomic.write(self._file(stage, number, "json"), data)
    return note

  def is_done(self, stage: str, task) -> bool:
    """Returns True for a task that has left its note."""
    return self._file(stage, _number(stage, task), "json").is_file()

  def _clean(self, number: int, chunk) -> dict:
    rules = {"train": self.rules, "heldout": documents.heldout_rules(self.rules)}
    writers = {
      split: cleaned.Writer(
        self._folder("clean"), f"{number:05d}.{split}", rules[split], signs=self.signs
      )
      for split in SPLITS
    }
    least, most = None, None
    with writers["train"], writers["heldout"]:
      for record, key in chunk.read():
        writers["heldout" if self._is_held(key) else "train"].add(record)
        least = key if least is None else min(least, key)
        most = key if most is None else max(most, key)
    keys = np.zeros(0, duplicates.KEY)
    for split, writer in writers.items() if self.signs else ():
      first = duplicates.place(split == "train", number)
      of_split = duplicates.keys(first, writer.rows, writer.signatures, self.rules.near)
      keys = np.concatenate([keys, of_split])
    keys = keys[np.argsort(keys["key"], kind="stable")]
    cleaned.save(self._file("clean", number, "keys.npy"), keys)
    reports = {split: writer.report.as_dict() for split, writer in writers.items()}
    return {"reports": reports, "keys": len(keys), "least": least, "most": most}

  def _is_held(self, key: int) -> bool:
    return key % _records.EVERY == 0 if self.lowest is None else key == self.lowest

  def _pairs(self, number: int) -> dict:
    keys = []
    start, end = ((n << 64) // self.num_parts for n in (number, number + 1))
    for chunk in range(self.num_chunks):
      of_chunk = cleaned.load(self._file("clean", chunk, "keys.npy"))
      keys.append(_between(of_chunk, "key", start, end))
    pairs, crowded = duplicates.pairs(np.concatenate(keys), self.rules.dedup)
    cleaned.save(self._file("pairs", number, "npy"), pairs)
    return {"pairs": len(pairs), "crowded": crowded}

  def _verify(self, number: int) -> dict:
    start, end = (duplicates.place(True, n) for n in (number, number + 1))
    parts = [
      cleaned.load(self._file("pairs", part, "npy")) for part in range(self.num_parts)
    ]
    later = [part["later"] for part in parts]
    stays = lambda place: not any(_holds(column, place) for column in later)
    pairs = duplicates.unique([_between(part, "later", start, end) for part in parts])
    edges = duplicates.edges(pairs, self._document, stays, self.rules)
    cleaned.save(self._file("verify", number, "npy"), edges)
    return {"edges": len(edges)}

  def decide(self):
    """Writes who goes of each chunk; returns {split: Report} of all.

    Raises Mistake when nothing of a split is left.
    """
    reports = {split: documents.Report() for split in SPLITS}
    whole = self._folder("decide") / "reports.json"
    if whole.is_file():
      for split, report in json.loads(whole.read_bytes()).items():
        reports[split].merge(report)
      return reports
    whole.parent.mkdir(exist_ok=True)
    for number in range(self.num_chunks):
      note = self.note("clean", number)
      for split, report in reports.items():
        report.merge(note["reports"][split])
    edges = (self._edges(number) for number in range(self.num_chunks))
    drops = duplicates.dropped(edges, self.rules.dedup)
    for number, of_chunk in enumerate(drops):
      for drop in of_chunk.tolist():
        self._report(reports["train"], *drop)
      cleaned.save(self._file("decide", number, "npy"), of_chunk)
      for split, report in reports.items():
        rows = self.kept_rows(split, number)
        report.kept += len(rows)
        report.kept_chars += int(self.reader(split, number).rows["chars"][rows].sum())
    notes = (self.note("pairs", part) for part in range(self.num_parts))
    reports["train"].crowded = sum(note["crowded"] for note in notes)
    documents.check_not_empty(reports)
    data = json.dumps({split: report.as_dict() for split, report in reports.items()})
    atomic.write(whole, data.encode("utf-8", "backslashreplace"))
    return reports

  def _edges(self, number: int) -> np.ndarray:
    if not self.signs:
      return np.zeros(0, duplicates.EDGE)
    return cleaned.load(self._file("verify", number, "npy"))

  def _report(self, report, place: int, original: int, reason: int):
    """Counts a document that goes, with the name of the one that it repeats."""
    reason, name = duplicates.REASONS[reason], ""
    if report.wants(reason):
      name = f"{self._name(place)} = {self._name(original)}"
    report.note(report.dropped, reason, name)

  def _kept_rows(self, split: str, number: int) -> np.ndarray:
    """Returns the rows of a chunk's documents that stay, after `decide`."""
    is_kept = np.ones(len(self.reader(split, number)), bool)
    if split == "train":
      drops = cleaned.load(self._file("decide", number, "npy"))
      is_kept[[duplicates.parts_of(place)[2] for place in drops["place"].tolist()]] = 0
    return np.flatnonzero(is_kept)

  def kept(self, split: str) -> "Chained":
    """Returns the texts of a split that stay."""
    return Chained(Kept(self, split, number) for number in range(self.num_chunks))

  def _reader(self, split: str, number: int) -> cleaned.Reader:
    return cleaned.Reader(self._folder("clean"), f"{number:05d}.{split}")

  def _located(self, place: int) -> tuple[cleaned.Reader, int]:
    """Returns (the chunk, the row) of a document's place."""
    is_train, chunk, row = duplicates.parts_of(place)
    return self.reader(SPLITS[not is_train], chunk), row

  def _document(self, place: int) -> duplicates.Document:
    reader, row = self._located(place)
    shared = reader.rows[row]
    chars, digest = int(shared["chars"]), shared["digest"].tobytes()
    make = self._short_shingles if chars <= SHORT else self._shingles
    shingles = functools.partial(make, place)
    return duplicates.Document(digest, chars, reader.signatures[row], shingles)

  def _shingles(self, place: int) -> np.ndarray:
    reader, row = self._located(place)
    return dedup.shingles(reader.text(row))

  def _name(self, place: int) -> str:
    reader, row = self._located(place)
    return reader.name(row)

  def _file(self, stage: str, number: int, suffix: str) -> Path:
    return self._folder(stage) / f"{number:05d}.{suffix}"

  def _folder(self, stage: str) -> Path:
    return self.folder / (stage if self.lowest is None else f"{stage}-lowest")


class Kept(Sequence):
  """The texts of a chunk that stay, each read when it is asked for."""

  def __init__(self, job: Job, split: str, number: int):
    self._job, self._chunk = job, (split, number)

  def __len__(self) -> int:
    return len(self._job.kept_rows(*self._chunk))

  def __getitem__(self, index: int) -> str:
    row = self._job.kept_rows(*self._chunk)[index]
    return self._job.reader(*self._chunk).text(int(row))


class Chained(Sequence):
  """Sequences one after the other, without a copy of them."""

  def __init__(self, parts):
    self._parts = list(parts)
    self._ends = np.cumsum([0, *map(len, self._parts)])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int):
    if not 0 <= index < len(self):
      raise IndexError(f"item {index} of {len(self)}")
    part = int(np.searchsorted(self._ends, index, side="right")) - 1
    return self._parts[part][index - int(self._ends[part])]


def _number(stage: str, task) -> int:
  return task[0] if stage == "clean" else task


def _holds(column, value: int) -> bool:
  """Returns True if a sorted array has a value."""
  index = np.searchsorted(column, np.uint64(value))
  return index < len(column) and column[index] == value


def _between(array, field: str, start: int, end: int) -> np.ndarray:
  """Returns the elements of a sorted array whose field is in [start, end)."""
  first = np.searchsorted(array[field], np.uint64(start))
  last = np.searchsorted(array[field], np.uint64(end - 1), side="right")
  return np.array(array[first:last])
