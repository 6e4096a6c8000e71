"""The cleaned documents of a chunk on disk: their texts, and what comparisons take.

Files FOLDER/NAME.texts (UTF-8, one after the other), .rows.npy (ROW of each document),
.signatures.npy and .names.json. Nobody holds the texts of a chunk at once.
"""

import contextlib
import json
from pathlib import Path

import numpy as np

from lm.data.clean import dedup, documents
from lm.disk import atomic

ROW = np.dtype([("start", "<u8"), ("chars", "<u8"), ("digest", "<u8", (2,))])


class Writer:
  """Writes documents as they come, whole when its `with` block ends."""

  def __init__(self, folder, name: str, rules, *, signs: bool):
    self.path, self.report = Path(folder) / name, documents.Report()
    self._rules, self._signs, self._end = rules, signs, 0
    self._rows, self._names, self._signatures = [], [], []

  def __enter__(self):
    self._files = contextlib.ExitStack()
    self._texts = self._files.enter_context(atomic.open(_named(self.path, "texts")))
    return self

  def add(self, record: dict):
    """Cleans a document, and keeps it unless it is dropped."""
    document = documents.judge(self._rules, self._signs, record)
    self.report.add(document)
    if document.reason:
      return
    self._rows.append((self._end, len(document.text), self._digest(document.text)))
    self._end += self._texts.write(document.text.encode())
    self._names.append(document.name)
    if self._signs:
      self._signatures.append(document.signature)

  def _digest(self, text: str):
    return np.frombuffer(dedup.digest(text), "<u8")

  @property
  def rows(self) -> np.ndarray:
    return np.array(self._rows, ROW)

  @property
  def signatures(self) -> np.ndarray:
    return np.array(self._signatures, np.uint32).reshape(-1, dedup.BINS)

  def __exit__(self, *error):
    if error[0] is None:
      save(_named(self.path, "rows.npy"), self.rows)
      save(_named(self.path, "signatures.npy"), self.signatures)
      names = json.dumps(self._names, ensure_ascii=False)
      data = names.encode("utf-8", "backslashreplace")
      atomic.write(_named(self.path, "names.json"), data)
    return self._files.__exit__(*error)


class Reader:
  """The documents of a Writer, each read when it is asked for."""

  def __init__(self, folder, name: str):
    self.path = Path(folder) / name
    self.rows = load(_named(self.path, "rows.npy"))
    self.signatures = load(_named(self.path, "signatures.npy"))
    self._texts = _named(self.path, "texts")
    self._size = self._texts.stat().st_size

  def __len__(self) -> int:
    return len(self.rows)

  def text(self, row: int) -> str:
    start = int(self.rows["start"][row])
    is_last = row + 1 == len(self.rows)
    end = self._size if is_last else int(self.rows["start"][row + 1])
    with self._texts.open("rb") as file:
      file.seek(start)
      return file.read(end - start).decode()

  def name(self, row: int) -> str:
    return json.loads(_named(self.path, "names.json").read_bytes())[row]


def save(path: Path, array: np.ndarray):
  """Writes an array, whole or not at all."""
  with atomic.open(path) as file:
    np.save(file, array)


def load(path: Path) -> np.ndarray:
  """Returns the array of `save`, mapped into memory unless it is empty."""
  try:
    return np.asarray(np.load(path, mmap_mode="r"))  # a memmap is slow to index
  except ValueError:  # an empty file cannot be mapped
    return np.load(path)


def _named(path: Path, suffix: str) -> Path:
  return path.with_name(f"{path.name}.{suffix}")
