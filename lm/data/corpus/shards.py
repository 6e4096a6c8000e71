"""Documents as flat token shards on disk, written by many processes, read as one array.

A split is a folder of `00000.tokens` (little-endian uint16 or uint32, a document's ids
followed by eos), `00000.lengths.npy` (tokens of each document) and `00000.json` (its
entry: sizes, a digest of the texts, digests of the two files). The entry is written
last: without it a shard does not exist.
"""

import functools
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from lm.data import tokenizers
from lm.disk import atomic

VERSION = 1  # raise it when the same documents and ids are written otherwise


def token_dtype(size: int) -> np.dtype:
  """The dtype of the ids of a vocabulary of `size`."""
  return np.dtype("<u2" if size <= 1 << 16 else "<u4")


def digest_of(texts) -> str:
  """A sha256 of texts and of where each of them ends."""
  digest = hashlib.sha256()
  for text in texts:
    data = text.encode()
    digest.update(len(data).to_bytes(8, "little") + data)
  return digest.hexdigest()


def finished(folder, index: int, source: str) -> dict | None:
  """The entry of shard `index` if it is whole and of the texts with digest `source`."""
  path = Path(folder) / f"{index:05d}.json"
  if not path.is_file():
    return None
  entry = json.loads(path.read_bytes())
  same = entry["source"] == source and all(
    (path.parent / name).is_file()
    and atomic.sha256_of_file(path.parent / name) == sha256
    for name, sha256 in entry["sha256"].items()
  )
  return entry if same else None


def write(tokenizer, folder, index: int, texts) -> dict:
  """Writes shard `index` of `texts` unless it exists and is whole.

  Returns its entry, and whether it was "reused".
  """
  source = digest_of(texts)
  if entry := finished(folder, index, source):
    return entry | {"reused": True}
  folder, coded = Path(folder), tokenizer.encode_batch(texts)
  end = np.array([tokenizer.eos], np.int32)
  flat = np.concatenate([part for ids in coded for part in (ids, end)])
  lengths = io.BytesIO()
  np.save(lengths, np.array([len(ids) + 1 for ids in coded], np.int64))
  parts = {
    f"{index:05d}.tokens": flat.astype(token_dtype(tokenizer.size)).tobytes(),
    f"{index:05d}.lengths.npy": lengths.getvalue(),
  }
  for name, data in parts.items():
    atomic.write(folder / name, data)
  entry = {
    "documents": len(texts),
    "tokens": len(flat),
    "bytes": sum(len(text.encode()) for text in texts),
    "source": source,
    "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
  }
  atomic.write(folder / f"{index:05d}.json", json.dumps(entry).encode())
  return entry | {"reused": False}


def write_all(tokenizer_folder, jobs, workers):
  """Yields the result of `write` for each (folder, index, texts), in order of `jobs`.

  Jobs that `workers` (a parallel.Workers) runs in this process are encoded by the
  threads of the tokenizers library, which is enough for a small corpus.
  """
  job = functools.partial(_write_job, str(tokenizer_folder))
  return workers.map(job, jobs, size_of=lambda job: sum(map(len, job[2])))


def _write_job(tokenizer_folder: str, job) -> dict:
  folder, index, texts = job
  return write(_loaded(tokenizer_folder), folder, index, texts)


@functools.lru_cache(1)
def _loaded(tokenizer_folder: str):
  return tokenizers.load(tokenizer_folder)


class Tokens:
  """The shards of a split as one read-only array of ids, mapped into memory.

  Indexed by an int or a slice (with step 1); the result is int32. `entries` are those
  of the shards, in order.
  """

  def __init__(self, folder, entries, dtype):
    paths = (Path(folder) / f"{index:05d}.tokens" for index in range(len(entries)))
    self._maps = [np.memmap(path, dtype, "r") for path in paths]
    self._starts = np.cumsum([0, *(entry["tokens"] for entry in entries)])

  def __len__(self) -> int:
    return int(self._starts[-1])

  def __getitem__(self, index):
    if not isinstance(index, slice):
      if not -len(self) <= index < len(self):
        raise IndexError(f"token {index} of {len(self)}")
      index = index % len(self)
      return np.int32(self[index : index + 1][0])
    start, stop, step = index.indices(len(self))
    assert step == 1, step
    parts = []
    while start < stop:
      shard = int(np.searchsorted(self._starts, start, side="right")) - 1
      first = int(self._starts[shard])
      end = min(stop, int(self._starts[shard + 1]))
      parts.append(self._maps[shard][start - first : end - first])
      start = end
    return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
