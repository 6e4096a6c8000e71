"""Documents as flat token shards on disk, written by many processes, read as one array.

A split is a folder of `00000.tokens` (little-endian uint16 or uint32, a document's ids
followed by eos), `00000.lengths.npy` (tokens of each document) and `00000.json` (its
entry: sizes, a digest of the texts, digests of the two files). The entry is written
last: without it a shard does not exist.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from lm.data.corpus.parallel import grouped
from lm.disk import atomic

AT_ONCE = 1 << 20  # characters that are encoded at a time
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


def file(folder, index: int) -> Path:
  """Returns the path of the entry of a shard."""
  return Path(folder) / f"{index:05d}.json"


def finished(folder, index: int, source: str) -> dict | None:
  """The entry of shard `index` if it is whole and of the texts with digest `source`."""
  path = file(folder, index)
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
  """Writes shard `index` of a sequence of texts unless it exists and is whole.

  Returns its entry. Texts are read when they are encoded.
  """
  source = digest_of(texts)
  if entry := finished(folder, index, source):
    return entry
  folder, dtype = Path(folder), token_dtype(tokenizer.size)
  flat, ends, num_bytes = [], [], 0
  for group in grouped(texts, len, AT_ONCE):
    num_bytes += sum(len(text.encode()) for text in group)
    for ids in tokenizer.encode_batch(group):
      flat.append(np.append(ids, tokenizer.eos).astype(dtype))
      ends.append(len(flat[-1]))
  flat, lengths = np.concatenate(flat), io.BytesIO()
  np.save(lengths, np.array(ends, np.int64))
  parts = {
    f"{index:05d}.tokens": flat.tobytes(),
    f"{index:05d}.lengths.npy": lengths.getvalue(),
  }
  for name, data in parts.items():
    atomic.write(folder / name, data)
  entry = {
    "documents": len(texts),
    "tokens": len(flat),
    "bytes": num_bytes,
    "source": source,
    "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
  }
  atomic.write(file(folder, index), json.dumps(entry).encode())
  return entry


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
