"""Duplicates among documents that no process holds at once, as arrays of their places.

A document is its place: whether it is training text (the highest bit), its chunk, and
its row there. So held-out documents come first, and training documents in order.

  keys     of one chunk: a hash for each band of minima, and one of the text
  pairs    of one range of hashes of all chunks: who shares one with an earlier document
  edges    of one chunk: which of those are repeats, by their texts
  dropped  in one pass over all edges: who repeats a document that stays
"""

import bisect
import itertools
from array import array
from typing import NamedTuple

import numpy as np

from lm.data.clean import dedup, documents

TRAIN = 1 << 63
CHUNK_BITS = 32  # of the row below the chunk
KEY = np.dtype([("key", "<u8"), ("place", "<u8"), ("text", "<u8")])
PAIR = np.dtype([("later", "<u8"), ("earlier", "<u8")])
EDGE = np.dtype([("later", "<u8"), ("earlier", "<u8"), ("is_exact", "?")])
DROP = np.dtype([("place", "<u8"), ("original", "<u8"), ("reason", "u1")])
REASONS = (documents.REPEATS, documents.DUPLICATE, documents.NEAR)
CROWD = 256  # training documents of a bucket that later ones are compared with


class Document(NamedTuple):
  """What a comparison takes; `text` is read only where the rest does not decide."""

  digest: bytes
  chars: int
  signature: np.ndarray
  text: object  # () -> str


def place(is_train: bool, chunk: int, row: int = 0) -> int:
  return is_train * TRAIN | chunk << CHUNK_BITS | row


def parts_of(place: int) -> tuple[bool, int, int]:
  """Returns (is it training text, its chunk, its row) of a place."""
  return place >= TRAIN, place % TRAIN >> CHUNK_BITS, place % (1 << CHUNK_BITS)


def keys(first: int, rows, signatures, near: float) -> np.ndarray:
  """Returns the keys of documents whose places count up from `first`.

  `rows` and `signatures` are those of lm.data.corpus.cleaned.
  """
  digests = rows["digest"]
  hashes = np.concatenate([digests[:, :1], dedup.band_keys(signatures, near)], axis=1)
  result = np.zeros(hashes.shape, KEY)
  result["key"], result["text"] = hashes, digests[:, 1:]
  result["place"] = np.arange(len(hashes), dtype=np.uint64)[:, None] + np.uint64(first)
  return result.ravel()


def pairs(keys, rule: str) -> tuple[np.ndarray, int]:
  """Returns (sorted pairs of places that share a key, the number of crowded buckets).

  `keys` are those of all documents in a range of hashes. Of equal texts the first
  stands for all, and the others are its pairs. Every training document is paired with
  each held-out one, and where `rule` is "minhash" with the first CROWD of training.
  """
  keys = keys[np.lexsort((keys["place"], keys["key"]))]
  starts = np.flatnonzero(np.diff(keys["key"], prepend=~keys["key"][:1]))
  ends = np.append(starts[1:], len(keys))
  shared, found, crowded = ends - starts > 1, [np.zeros(0, PAIR)], 0
  for start, end in zip(starts[shared], ends[shared], strict=True):
    bucket = keys[start:end]
    places = bucket["place"]
    _, first, number = np.unique(bucket["text"], return_index=True, return_inverse=True)
    lead = first[number]
    copies = np.flatnonzero(lead != np.arange(len(places)))
    found.append(_pairs(places[copies], places[lead[copies]]))
    different = places[np.sort(first)]
    held = int(np.searchsorted(different, np.uint64(TRAIN)))
    before = held + CROWD if rule == "minhash" else held
    crowded += rule == "minhash" and len(different) > before
    later, earlier = np.tril_indices(len(different), -1, min(before, len(different)))
    of_train = later >= held
    found.append(_pairs(different[later[of_train]], different[earlier[of_train]]))
  result = np.unique(np.concatenate(found))
  return result[result["later"] >= TRAIN], int(crowded)


def _pairs(later, earlier) -> np.ndarray:
  result = np.zeros(len(later), PAIR)
  result["later"], result["earlier"] = later, earlier
  return result


def edges(pairs, document, rules) -> np.ndarray:
  """Returns those of sorted pairs that are repeats by the rules, exact or near.

  `document(place)` returns a Document. Of each later document come the edges that
  decide: one to held-out text, one to an equal text, or all to similar ones, in order.
  """
  result = []
  for later, group in itertools.groupby(pairs.tolist(), key=lambda pair: pair[0]):
    own, earlier = document(later), [pair[1] for pair in group]
    is_exact = [document(one).digest == own.digest for one in earlier]
    equal = list(itertools.compress(earlier, is_exact))
    held = [one for one in earlier if one < TRAIN]
    if equal and equal[0] < TRAIN:
      result.append((later, equal[0], True))
      continue
    near = _first_near(own, held, document, rules.near)
    if near is not None:
      result.append((later, near, False))
    elif equal:
      result.append((later, equal[0], True))
    elif rules.dedup == "minhash":
      rest = earlier[len(held) :]
      similar = _near(own, rest, document, rules.near)
      result += [(later, one, False) for one in similar]
  return np.array(result, EDGE)


def _first_near(own: Document, places, document, near: float):
  """Returns the first of some places with a similar text, None without one."""
  return next(iter(_near(own, places, document, near)), None)


def _near(own: Document, places, document, near: float):
  """Yields those places whose texts are at least `near` similar."""
  shingles_n = None
  for one in places:
    other = document(one)
    if not dedup.may_be_near(own.chars, own.signature, other.signature, near):
      continue
    if shingles_n is None:
      shingles_n = dedup.shingles(own.text())
    if dedup.jaccard(shingles_n, dedup.shingles(other.text())) >= near:
      yield one


def dropped(edges_of_chunks, rule: str):
  """Yields the documents that go, an array for each array of edges; in order.

  A copy of a document that went goes for the same reason. What is near a document that
  went stays, unless it is near one that stays.
  """
  places, originals, reasons = array("Q"), array("Q"), array("B")
  for edges in edges_of_chunks:
    before = len(places)
    for later, earlier, is_exact in edges.tolist():
      if places and places[-1] == later:
        continue
      index = bisect.bisect_left(places, earlier)
      is_gone = index < len(places) and places[index] == earlier
      if earlier < TRAIN:
        reason, original = 0, earlier
      elif is_exact and is_gone:
        reason, original = reasons[index], originals[index]
      elif is_gone or (is_exact and rule == "none"):
        continue
      else:
        reason, original = 1 if is_exact else 2, earlier
      places.append(later)
      originals.append(original)
      reasons.append(reason)
    result = np.zeros(len(places) - before, DROP)
    result["place"], result["original"] = places[before:], originals[before:]
    result["reason"] = reasons[before:]
    yield result
