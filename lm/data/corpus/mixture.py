"""Several sources in fixed proportions, with one tokenizer for all.

Each source keeps its own epochs: a small one with a large weight is seen more often.
Training text that repeats the held-out text of its own source is dropped; what repeats
that of another source is not looked for.
"""

import hashlib
from pathlib import Path

from lm.data import sources, tokenizers
from lm.data.corpus import build, parallel
from lm.disk import atomic
from lm.errors import Mistake


class Mixture(tuple):
  """Several Prepared with one tokenizer, and what all of them are together."""

  @property
  def tokenizer(self):
    return self[0].tokenizer

  @property
  def folder(self) -> Path:
    """Where the folders of all of them lie."""
    return self[0].folder.parent

  @property
  def digest(self) -> str:
    return hashlib.sha256(" ".join(part.digest for part in self).encode()).hexdigest()

  @property
  def report(self) -> dict:
    return {part.manifest["made_of"]["source"]: part.report for part in self}

  @property
  def manifest(self) -> dict:
    """The sums of every split."""
    told = [part.manifest["splits"] for part in self]
    sums = ("documents", "tokens", "bytes")
    return {
      "splits": {
        split: {key: sum(one[split][key] for one in told) for key in sums}
        for split in told[0]
      }
    }

  def counts(self, split: str):
    """How often each id stands in a split of any of them, whatever the weights."""
    return sum(part.counts(split) for part in self)


def prepare_all(names, *, tokenizer, clean, pack, seq, cache, log=print) -> Mixture:
  """`prepare.prepare` of each source, all with one tokenizer.

  "bpe-N" or "words-N" is learnt from the cleaned train splits of all of them together,
  once, and kept in the cache under a hash of what it was learnt from.
  """
  build.check(clean=clean, pack=pack, seq=seq)
  if len(names) > 1 and tokenizers.learnt(tokenizer):
    tokenizer = str(_shared(tuple(names), tokenizer, clean, cache=cache, log=log))
  return Mixture(
    build.prepare(
      source=name,
      tokenizer=tokenizer,
      clean=clean,
      pack=pack,
      seq=seq,
      cache=cache,
      log=log,
    )
    for name in names
  )


def _shared(names, tokenizer: str, clean, *, cache, log) -> Path:
  made_of = {
    "sources": {name: sources.fingerprint(name, cache=cache) for name in names},
    "tokenizer": tokenizer,
    "clean": clean,
    "code": build.code_digest(),
  }
  folder = Path(cache) / "tokenizers" / build.folder_name("_".join(names), made_of)
  if (folder / "tokenizer.json").is_file():
    return folder
  folder.parent.mkdir(parents=True, exist_ok=True)
  with atomic.locked(folder.with_name(folder.name + ".lock"), log=log):
    if not (folder / "tokenizer.json").is_file():
      log(f"learning {tokenizer} from {', '.join(names)}")
      # Every source gives text in proportion to its size, as one corpus would.
      with parallel.Workers() as workers:
        texts = [
          build.Texts(build.cleaned(name, clean, workers, cache=cache)[0]["train"])
          for name in names
        ]
      tokenizers.make(tokenizer, Joined(texts)).save(folder)
  return folder


class Joined:
  """Sequences one after another, as one sequence; `pad_row` is that of the first."""

  def __init__(self, parts):
    self._parts = parts

  def __len__(self) -> int:
    return sum(map(len, self._parts))

  def __getitem__(self, index: int):
    for part in self._parts:
      if index < len(part):
        return part[index]
      index -= len(part)
    raise IndexError(index)

  def pad_row(self) -> dict:
    return self._parts[0].pad_row()


def shares(weights, num: int) -> list[float]:
  """The weights as fractions of one; equal ones for none.

  Raises Mistake unless there are `num` of them, all above zero.
  """
  weights = [float(w) for w in weights or [1.0] * num]
  if not num or len(weights) != num or not all(0 < w < float("inf") for w in weights):
    raise Mistake(
      f"weights={tuple(weights)} for {num} sources; wanted one above 0 for each"
    )
  return [w / sum(weights) for w in weights]
