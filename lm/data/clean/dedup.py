"""Near-duplicate documents by MinHash, in numpy.

A document is its set of shingles: 16 consecutive bytes of the text, case and white
space aside. One pass of one-permutation hashing (Li, Owen and Zhang, arXiv:1208.1259)
reduces them to 128 minima, whatever the length; empty bins borrow from the next one on
the right (Shrivastava and Li, arXiv:1406.4784). Locality-sensitive hashing over bands
of minima proposes pairs, and the exact Jaccard similarity of the two sets decides.
"""

import hashlib

import numpy as np

SHINGLE_BYTES = 16  # three English words or five Chinese characters
BINS = 128
BLOCK_CHARS = 1 << 20  # that are hashed at a time
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: odd, bits well spread
_EDGES = np.arange(BINS, dtype=np.uint64) << np.uint64(57)  # 64 - log2(BINS)


class Seen:
  """An index of documents, to look up those that a new text repeats."""

  def __init__(self, near: float):
    self.near, self.rows = near, rows_per_band(near)
    self.exact, self.buckets = {}, {}
    self.names, self.texts, self.signatures = [], [], []

  def add(self, name: str, text: str, signature=None):
    """Adds a document; without a signature only `find_exact` finds it."""
    index = len(self.names)
    self.names.append(name)
    self.texts.append(text)
    self.exact.setdefault(digest(text), index)
    self.signatures.append(signature)
    for key in () if signature is None else self._keys(signature):
      self.buckets.setdefault(key, []).append(index)

  def find_exact(self, text: str) -> str | None:
    """The name of the first document with exactly this text, or None."""
    index = self.exact.get(digest(text))
    return None if index is None else self.names[index]

  def find_near(self, text: str, signature) -> str | None:
    """The name of the first document at least `near` similar to a text, or None."""
    keys = self._keys(signature)
    near = {index for key in keys for index in self.buckets.get(key, ())}
    shingles_n = None
    for index in sorted(near):
      if not may_be_near(len(text), signature, self.signatures[index], self.near):
        continue
      if shingles_n is None:
        shingles_n = shingles(text)
      if jaccard(shingles_n, shingles(self.texts[index])) >= self.near:
        return self.names[index]
    return None

  def _keys(self, signature):
    bands = signature.reshape(-1, self.rows)
    return [(number, band.tobytes()) for number, band in enumerate(bands)]


def may_be_near(chars: int, a, b, near: float) -> bool:
  """Returns False where two signatures rule out a Jaccard similarity of `near`.

  Their estimate saves most comparisons: its standard deviation is below 0.045. Texts of
  few characters fill many bins with a few shingles each, and are always compared.
  """
  return chars <= 1000 or np.count_nonzero(a == b) >= (near - 0.2) * BINS


def band_keys(signatures, near: float) -> np.ndarray:
  """Returns a hash (uint64) of each band of minima, a row for each signature.

  Of two texts that share one, the similarity is worth computing.
  """
  rows = rows_per_band(near)
  bands = signatures.astype(np.uint64).reshape(len(signatures), BINS // rows, rows)
  keys = np.arange(1, BINS // rows + 1, dtype=np.uint64) * np.ones_like(bands[..., 0])
  for row in range(rows):
    keys = (keys ^ bands[..., row]) * _MIX
    keys ^= keys >> np.uint64(29)
  return keys


def digest(text: str) -> bytes:
  """16 bytes that stand for the exact text."""
  return hashlib.blake2b(text.encode(), digest_size=16).digest()


def minhash(text: str) -> np.ndarray:
  """The signature of a text: 128 minima, of which similar texts share many.

  The share of equal ones estimates the Jaccard similarity of the two texts.
  """
  return _minima(shingles(text))


def shingles(text: str) -> np.ndarray:
  """Sorted hashes (uint64) of the text's distinct shingles; at least one."""
  data, blocks = b"", []
  for part in _normal(text):
    data += part
    if len(data) >= SHINGLE_BYTES:
      blocks.append(_distinct(_hashes(data)))
      data = data[1 - SHINGLE_BYTES :]
  if len(blocks) == 1:
    return blocks[0]
  return _distinct(
    np.concatenate(blocks or [_hashes(data.ljust(SHINGLE_BYTES, b"\0"))])
  )


def _normal(text: str):
  """Yields the bytes of a text without case and with single spaces, in blocks."""
  has_words = ends_in_space = False
  for start in range(0, len(text), BLOCK_CHARS):
    block = text[start : start + BLOCK_CHARS]
    words = " ".join(block.casefold().split())
    is_apart = ends_in_space or block[0].isspace()
    ends_in_space = block[-1].isspace() or (is_apart and not words)
    if words:
      yield f"{' ' * (has_words and is_apart)}{words}".encode()
      has_words = True


def _hashes(data: bytes) -> np.ndarray:
  """Returns a hash of the SHINGLE_BYTES from each place of some bytes."""
  hash_n = np.frombuffer(data, np.uint8).astype(np.uint64)
  # Each round joins neighbours: hashes of 2, 4, 8, then 16 bytes, at all offsets.
  span = 1
  while span < SHINGLE_BYTES:
    left_n, right_n = hash_n[:-span], hash_n[span:]
    hash_n = (left_n * _MIX) ^ (right_n + np.uint64(span))
    hash_n ^= hash_n >> np.uint64(29)
    span *= 2
  hash_n *= _MIX
  return hash_n


def _distinct(hash_n: np.ndarray) -> np.ndarray:
  """Returns the different numbers of an array, which it sorts in place."""
  hash_n.sort()
  return hash_n[np.concatenate([[True], hash_n[1:] != hash_n[:-1]])]


def jaccard(a_n: np.ndarray, b_n: np.ndarray) -> float:
  """The size of the intersection over that of the union of two sorted sets."""
  small_n, large_n = sorted((a_n, b_n), key=len)
  place_n = np.searchsorted(large_n, small_n)
  place_n[place_n == len(large_n)] = 0
  shared = np.count_nonzero(large_n[place_n] == small_n)
  return float(shared / (len(a_n) + len(b_n) - shared))


def _minima(hash_n: np.ndarray) -> np.ndarray:
  """The minimum hash in each of BINS equal ranges, as uint32."""
  start = np.searchsorted(hash_n, _EDGES)
  end = np.append(start[1:], len(hash_n))
  full = np.flatnonzero(start < end)
  # For each bin, the first full one at it or to its right, cyclically.
  lender = full[np.searchsorted(full, np.arange(BINS)) % len(full)]
  distance = (lender - np.arange(BINS)) % BINS
  minima = hash_n[start[lender]] + distance.astype(np.uint64) * _MIX
  return (minima & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def rows_per_band(near: float) -> int:
  """The most rows with which 999 of 1000 pairs of similarity `near` are proposed."""
  for rows in (16, 8, 4, 2):
    if (1 - near**rows) ** (BINS // rows) < 1e-3:
      return rows
  return 1
