"""Chunks of a source: the documents that one process reads at a time.

A chunk is small, can be sent to another process, and has
  num_bytes  about how much text it has
  read()     yields (record, number): {"id", "text"}, and a number of which a multiple
             of _records.EVERY holds the document out
"""

from dataclasses import dataclass

from lm.data.sources import _records
from lm.errors import Mistake

CHUNK_BYTES = 16 << 20  # of text: seconds of work to lose, not hours
PROBES = 32  # documents that are read to guess the size of all
HELDOUT, TRAIN = 0, 1  # numbers of documents whose split is known


@dataclass(frozen=True)
class Part:
  """Consecutive records of one split."""

  records: object  # a sequence
  number: int
  num_bytes: int

  def read(self):
    for record in self.records:
      yield record, self.number


def of_splits(splits: dict, source: str) -> list[Part]:
  """Returns the chunks of what `documents` of a source returns, held-out ones first.

  Raises Mistake for a split without documents.
  """
  chunks = []
  for split, number in (("heldout", HELDOUT), ("train", TRAIN)):
    records = splits[split]
    if not len(records):
      raise Mistake(f"{source} has no document of the {split} text; wanted one or more")
    mean = _mean_bytes(records)
    each = max(1, int(CHUNK_BYTES / max(1, mean)))
    for start in range(0, len(records), each):
      part = _slice(records, start, min(start + each, len(records)))
      chunks.append(Part(part, number, int(mean * len(part))))
  return chunks


def _mean_bytes(records) -> float:
  """Returns the mean size of a few records from all over a sequence, 0 for none."""
  num = len(records)
  places = sorted({i * num // PROBES for i in range(PROBES)}) if num else []
  sizes = [len(records[i]["text"].encode()) for i in places]
  return sum(sizes) / len(sizes) if sizes else 0.0


def _slice(records, start: int, stop: int):
  """Returns a part of a sequence, without the rest of it where it can be cut."""
  if isinstance(records, _records.Records):
    return _records.Records(records.items[start:stop], records.read)
  if isinstance(records, list):
    return records[start:stop]
  return _records.Records(range(start, stop), records.__getitem__)
