"""A built corpus, opened: token ids, document offsets and tokenizer, from disk."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from lm.data import tokenizers
from lm.data.corpus import shards
from lm.disk import atomic, locks
from lm.errors import Mistake, one_of

COUNTED_TOKENS = 1 << 20  # tokens counted at a time


class Corpus:
  """The token shards, offsets and tokenizer of one source.

  `folder` and `manifest` are those that lm.data.corpus.build wrote. Raises Mistake for
  a file that is not as it was written, see `verify`.
  """

  def __init__(self, folder):
    self.folder = Path(folder)
    self.manifest = json.loads((self.folder / "manifest.json").read_bytes())
    verify(self.folder, _digests(self.manifest))
    self.tokenizer = tokenizers.load(self.folder / "tokenizer")
    dtype = shards.token_dtype(self.tokenizer.size)
    self._tokens = {
      split: shards.Tokens(self.folder / split, entry["shards"], dtype)
      for split, entry in self.manifest["splits"].items()
    }

  @property
  def source(self) -> str:
    """The name of the source, as in `data.source`."""
    return self.manifest["made_of"]["source"]

  def digest(self, tokenizer) -> str:
    """A sha256 of the tokens, and of the tokenizer that rows of them are made with."""
    facts = [tokenizer.digest, self.manifest["splits"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

  @property
  def report(self) -> dict:
    """The sizes of the splits and what cleaning dropped, as in report.json."""
    return json.loads((self.folder / "report.json").read_bytes())

  def tokens(self, split: str) -> shards.Tokens:
    """The ids of a split as one array, eos after every document."""
    return self._tokens[one_of("split", split, self._tokens)]

  def offsets(self, split: str) -> np.ndarray:
    """The offset in `tokens(split)` of each document, and the end of the last."""
    one_of("split", split, self._tokens)
    return np.load(self.folder / split / "offsets.npy", mmap_mode="r")

  def counts(self, split: str) -> np.ndarray:
    """The number of occurrences of each id in a split."""
    tokens, counts = self.tokens(split), np.zeros(self.tokenizer.size, np.int64)
    for start in range(0, len(tokens), COUNTED_TOKENS):
      ids = tokens[start : start + COUNTED_TOKENS]
      counts += np.bincount(ids, minlength=counts.size)
    return counts

  def file(self, name: str, write) -> Path:
    """The path of a file that is computed from this corpus, such as a plan of rows.

    `write(path)` makes it on first use; its name holds all that it depends on besides
    the corpus, VERSION of the code included. Raises Mistake when the file has changed
    since it was first read.
    """
    path = self.folder / name
    if not path.is_file():
      lock = self.folder.with_name(self.folder.name + ".lock")
      with locks.locked(lock, log=print):
        if not path.is_file():
          _write_whole(path, write)
    verify(self.folder, {name: None})
    return path


def _write_whole(path: Path, write):
  """Calls write(temporary path), and gives the file its name when it is complete."""
  temporary = path.with_name(f"{path.name}.tmp")
  try:
    write(temporary)
    with open(temporary, "rb") as file:
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  atomic.sync_folder(path.parent)


def verify(folder: Path, expected: dict):
  """Raises Mistake for a missing file, or one whose sha256 is not the expected one.

  `expected` maps names to digests; None stands for the digest at the first reading.
  Digests are noted in checked.json (where the folder can be written): a file of the
  same size and time of change is not read again, which would take a large corpus long.
  """
  note, noted, verified = folder / "checked.json", {}, {}
  with contextlib.suppress(OSError, ValueError):
    noted = json.loads(note.read_bytes())
  for name, sha256 in expected.items():
    path, old = folder / name, noted.get(name, [None])
    message = f"{path} is damaged or missing; delete {folder} and prepare again"
    if not path.is_file():
      raise Mistake(message)
    stat = path.stat()
    entry = [sha256 or old[0], stat.st_size, stat.st_mtime_ns]
    if entry != old:
      digest = atomic.sha256_of_file(path)
      if entry[0] not in (None, digest):
        raise Mistake(message)
      entry[0] = digest
    verified[name] = entry
  if noted | verified != noted:
    with contextlib.suppress(OSError):
      atomic.write(note, json.dumps(noted | verified).encode())


def _digests(manifest: dict) -> dict[str, str]:
  """{file: sha256} of all files of a manifest."""
  return manifest["sha256"] | {
    f"{split}/{name}": sha256
    for split, entry in manifest["splits"].items()
    for shard in entry["shards"]
    for name, sha256 in shard["sha256"].items()
  }
