"""Prefixes of prompts that were read before: what the cache holds of whole chunks.

A chunk's address is the hash of its ids and of all before it, with a salt in front, so
a prefix is reused by requests of the same salt alone: the time that a prompt takes
tells nothing of other users' (arXiv:2411.18191).
"""

import collections
import hashlib
import threading

import jax
import numpy as np


def addresses(ids, chunk: int, salt: str) -> list[bytes]:
  """Returns the address of each whole chunk of a prompt."""
  front = hashlib.sha256(salt.encode()).digest()
  ids_T, digest, listed = np.asarray(ids, np.int64), hashlib.sha256(front), []
  for start in range(0, len(ids_T) // chunk * chunk, chunk):
    digest.update(ids_T[start : start + chunk].tobytes())
    listed.append(digest.digest())  # of all so far: a hash goes on after it
  return listed


class Prefixes:
  """Parts of one-row caches by address, the least used of which are dropped."""

  def __init__(self, limit_bytes: int):
    self._limit, self._lock = limit_bytes, threading.Lock()
    self._parts = collections.OrderedDict()  # address -> (part, bytes)
    self.bytes = 0

  def longest(self, listed) -> list:
    """Returns the parts of the chunks in front that are here, in order."""
    parts = []
    with self._lock:
      for address in listed:
        if address not in self._parts:
          break
        self._parts.move_to_end(address)
        parts.append(self._parts[address][0])
    return parts

  def add(self, address: bytes, part):
    """Keeps a part, and drops the least used ones beyond the limit."""
    size = sum(x.nbytes for x in jax.tree.leaves(part))
    with self._lock:
      if address in self._parts or size > self._limit:
        return
      self._parts[address] = (part, size)
      self.bytes += size
      while self.bytes > self._limit:
        _, (_, dropped) = self._parts.popitem(last=False)
        self.bytes -= dropped
