"""The dataset of a config: one or several corpora with one tokenizer, read as rows.

Each source keeps its own epochs: a small one with a large weight is seen more often.
Training text that repeats the held-out text of its own source is dropped; repetitions
across sources are not.
"""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from lm.data import tokenizers
from lm.data.corpus import engines, prepared
from lm.data.corpus.reader import Corpus
from lm.data.rows import Joined, Rows, corrupt
from lm.disk import locks

SUMS = ("documents", "tokens", "bytes")
FEW_BYTES = 5_000  # held out; of a thousand words the loss is known to some 3%


class Corpora:
  """A lm.data.Dataset of text: the corpora of a `Data`, with one tokenizer.

  `tokenizer` has the special tokens that the corruption needs, behind all others.
  """

  def __init__(self, data, corpora: list[Corpus]):
    self.corpora, self.order = corpora, data.order
    self._kind, self._corruption, self._shares = data.kind, data.corruption, data.shares
    self.tokenizer = corpora[0].tokenizer
    if self._corruption:
      self.tokenizer = corrupt.extended(self.tokenizer, self._corruption)

  @property
  def folder(self) -> Path:
    """The folder of the corpus, or the parent folder of several."""
    first = self.corpora[0].folder
    return first if len(self.corpora) == 1 else first.parent

  @property
  def digest(self) -> str:
    """A sha256 of all tokens and of the tokenizer."""
    digests = [corpus.digest(self.tokenizer) for corpus in self.corpora]
    if len(digests) == 1:
      return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()

  @property
  def report(self) -> dict:
    """{source: sizes of its splits and what cleaning dropped}."""
    return {corpus.source: corpus.report for corpus in self.corpora}

  @property
  def manifest(self) -> dict:
    """{"splits": {split: {"documents", "tokens", "bytes"}}}, sums over the sources."""
    entries = [corpus.manifest["splits"] for corpus in self.corpora]
    return {
      "splits": {
        split: {name: sum(entry[split][name] for entry in entries) for name in SUMS}
        for split in entries[0]
      }
    }

  def counts(self, split: str) -> np.ndarray:
    """The number of occurrences of each id in a split, whatever the weights."""
    counts_V = np.zeros(self.tokenizer.size, np.int64)
    for corpus in self.corpora:
      part_V = corpus.counts(split)
      counts_V[: part_V.size] += part_V
    return counts_V

  def word_counts(self) -> np.ndarray:
    """The occurrences of each id in the training split, 0 for what is no word."""
    from lm.data.tokenizers import word_level

    return word_level.of_words(self.counts("train"), self.tokenizer)

  def rows(self, split: str, seq: int) -> Rows:
    """The rows of a split, `seq` positions each, source after source.

    Raises Mistake for a split that does not exist, and for too little text.
    """
    parts = [self._kind.rows(corpus, split, seq) for corpus in self.corpora]
    rows = Joined(parts, self._shares)
    if not self._corruption:
      return rows
    bound = self._corruption.bound(self.tokenizer, seq)
    if split == "train":
      return corrupt.Redrawn(rows, bound)
    return corrupt.Fixed(rows, bound, self._corruption.views)


def prepare(data, *, seq: int, engine=engines.HERE, log=print) -> Corpora:
  """See lm.data.prepare."""
  tokenizer = data.tokenizer
  if len(data.sources) > 1 and tokenizers.learnt(tokenizer):
    tokenizer = str(_shared_tokenizer(data, engine=engine, log=log))
  options = dict(cache=data.cache, engine=engine, log=log)
  corpora = [
    prepared.corpus(source, tokenizer, clean=data.clean, **options)
    for source in data.sources
  ]
  dataset = Corpora(data, corpora)
  dataset.rows("train", seq)  # plans the rows, and raises for too little text, now
  num_bytes = dataset.manifest["splits"]["heldout"]["bytes"]
  if num_bytes < FEW_BYTES:
    log(
      f"warning: only {num_bytes:,} bytes of text are held out, in which a loss is "
      f"mostly chance; a text of {20 * FEW_BYTES:,} bytes or more gives enough"
    )
  return dataset


def _shared_tokenizer(data, *, engine, log) -> Path:
  """The folder of a tokenizer learnt from the training text of all sources together.

  It is learnt once, and kept in the cache under a hash of what it was learnt from.
  """
  names, cache = data.sources, data.cache
  parts = [prepared.facts(name, data.clean, cache=cache) for name in names]
  made_of = {
    "sources": {part["source"]: part["content"] for part in parts},
    "tokenizer": data.tokenizer,
    "clean": parts[0]["clean"],
    "versions": prepared.versions(),
  }
  made_of |= {"outside": parts[0]["outside"]} if "outside" in parts[0] else {}
  folder = Path(cache) / "tokenizers" / prepared.folder_name("_".join(names), made_of)
  if (folder / "tokenizer.json").is_file():
    return folder
  from lm.data.corpus import build, stages

  with contextlib.ExitStack() as held:
    held.enter_context(locks.locked(folder.with_name(folder.name + ".lock"), log=log))
    if not (folder / "tokenizer.json").is_file():
      log(f"learning {data.tokenizer} from {', '.join(names)}")
      jobs = {}
      # In one order, whoever mixes the sources: each waits for locks of others.
      for name, part in sorted({part["source"]: part for part in parts}.items()):
        cleaned = build.cleaned(part, cache=cache, engine=engine, log=log)
        jobs[name], *_ = held.enter_context(cleaned)
      # Every source gives text in proportion to its size, as one corpus would.
      texts = stages.Chained(jobs[name].kept("train") for name in names)
      tokenizers.make(data.tokenizer, texts).save(folder)
  return folder
