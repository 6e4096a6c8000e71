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
  """What a comparison takes; shingles are made where the rest does not decide."""

  digest: bytes
  chars: int
  signature: np.ndarray
  shingles: object  # () -> those of dedup.shingles


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
  sizes = np.diff(starts, append=len(keys))
  parts, crowded = [_pairs_of_two(keys, starts[sizes == 2], rule)], 0
  large = sizes > 2
  for start, size in zip(starts[large], sizes[large], strict=True):
    of_bucket, is_crowded = _pairs_of_many(keys[start : start + size], rule)
    parts += of_bucket
    crowded += is_crowded
  result = unique(parts)
  return result[result["later"] >= TRAIN], crowded


def _pairs_of_two(keys, starts, rule: str) -> np.ndarray:
  """Returns the pairs of all buckets of two."""
  first, second = keys[starts], keys[starts + 1]
  wanted = (first["text"] == second["text"]) | (first["place"] < TRAIN)
  wanted |= rule == "minhash"
  return _pairs(second["place"][wanted], first["place"][wanted])


def _pairs_of_many(bucket, rule: str) -> tuple[list, bool]:
  """Returns (arrays of pairs of a bucket, True if it is crowded)."""
  places = bucket["place"]
  _, first, number = np.unique(bucket["text"], return_index=True, return_inverse=True)
  lead = first[number]
  copies = np.flatnonzero(lead != np.arange(len(places)))
  different = places[np.sort(first)]
  held = int(np.searchsorted(different, np.uint64(TRAIN)))
  before = held + CROWD if rule == "minhash" else held
  later, earlier = np.tril_indices(len(different), -1, min(before, len(different)))
  of_train = later >= held
  result = [
    _pairs(places[copies], places[lead[copies]]),
    _pairs(different[later[of_train]], different[earlier[of_train]]),
  ]
  return result, rule == "minhash" and len(different) > before


def _pairs(later, earlier) -> np.ndarray:
  result = np.zeros(len(later), PAIR)
  result["later"], result["earlier"] = later, earlier
  return result


def unique(arrays) -> np.ndarray:
  """Returns the different pairs of some arrays, sorted."""
  pairs = np.concatenate([np.zeros(0, PAIR), *arrays])
  pairs = pairs[np.lexsort((pairs["earlier"], pairs["later"]))]
  is_new = np.ones(len(pairs), bool)
  is_new[1:] = (np.diff(pairs["later"]) != 0) | (np.diff(pairs["earlier"]) != 0)
  return pairs[is_new]


def edges(pairs, document, stays, rules) -> np.ndarray:
  """Returns those of sorted pairs that are repeats by the rules, exact or near.

  `document(place)` returns a Document; `stays(place)` is True where a document is in no
  pair as the later one. Of each later document come the edges that decide: one to held-
  out text, one to an equal text, or those to similar ones up to one that stays.
  """
  result, alone = [], set()
  for later, group in itertools.groupby(pairs.tolist(), key=lambda pair: pair[0]):
    own = document(later)
    others = [(place, document(place)) for _, place in group]
    equal = [place for place, other in others if other.digest == own.digest]
    held = [pair for pair in others if pair[0] < TRAIN]
    near = None
    if not equal or equal[0] >= TRAIN:
      near = next(_near(own, held, rules.near), None)
    if near is not None:
      result.append((later, near, False))
    elif equal:
      result.append((later, equal[0], True))
    else:
      rest = others[len(held) :] if rules.dedup == "minhash" else []
      before = len(result)
      for place in _near(own, rest, rules.near):
        result.append((later, place, False))
        if place in alone or stays(place):
          break
      if len(result) == before:
        alone.add(later)
  return np.array(result, EDGE)


def _near(own: Document, others, near: float):
  """Yields the places of those documents that are at least `near` similar."""
  own_n = None
  for place, other in others:
    if not dedup.may_be_near(own.chars, own.signature, other.signature, near):
      continue
    own_n = own.shingles() if own_n is None else own_n
    if dedup.jaccard(own_n, other.shingles()) >= near:
      yield place


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
