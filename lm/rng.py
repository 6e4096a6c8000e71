"""Keys as a function of what they are for. No state ever stores a key."""

import zlib

import jax


def stream(root, purpose: str, step=0):
  """The key of one purpose ("dropout", "init") at one step, from the run's root key.

  The same arguments give the same key on every host and after every restart, and adding
  a purpose changes none of the others.
  """
  key = jax.random.fold_in(root, zlib.crc32(purpose.encode()))
  return jax.random.fold_in(key, step)
