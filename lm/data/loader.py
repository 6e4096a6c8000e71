"""Rows to global sharded batches, each a pure function of (seed, step).

Nothing is iterated, so there is no state to save: step 1000 after a restart, on another
number of hosts, is the step 1000 that would have been. Grain draws the rows: shuffled
anew in every epoch, and mixed in fixed proportions, all by index.
"""

import collections
import functools
import hashlib
import itertools
import zlib
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from lm.data.corpus import mixture
from lm.data.rows import pack
from lm.errors import Mistake
from lm.letters import batch_shardings, spec


class Loader:
  """`loader(step)` is the batch of that step: global jax.Arrays by name.

  "train" is shuffled by `seed`, or of pack "stream" begins where `seed` says, and never
  ends. Any other split, or `seed=None`, is in order, each row once, and ends after
  `len(loader)` steps; its last batch is filled up with rows of weight 0, so sums over
  it do not depend on the batch size.

  `prepared` is one Prepared or a sequence of them, mixed with `weights` (rows of each,
  in proportion; equal for none), or in order one after another. `corrupt` is what is
  done to every row, see lm.data.rows.corrupt: to a row of the training anew whenever
  it is read, to any other one always the same. Raises Mistake if their tokenizers or
  packs differ, or if the batch does not divide over the mesh.
  """

  def __init__(
    self, prepared, split, *, batch, seq, seed, mesh, weights=(), corrupt=None
  ):
    prepared = prepared if isinstance(prepared, (list, tuple)) else [prepared]
    self.tokenizer = prepared[0].tokenizer
    if len({(p.tokenizer.digest, p.pack) for p in prepared}) > 1:
      raise Mistake(
        "the sources of a mixture differ in tokenizer or pack; prepare them together "
        "with mixture.prepare_all"
      )
    self.batch, self.seq, self._mesh = batch, seq, mesh
    self._rows = [p.rows(split, seq) for p in prepared]
    self._shares = mixture.shares(weights, len(prepared))
    self._ordered = split != "train" or seed is None
    if self._ordered:
      self._rows, self._shares = [mixture.Joined(self._rows)], [1.0]
    check_divides(mesh, batch=batch, seq=seq)
    if not self._ordered:
      if prepared[0].pack == "stream":
        self._drawn = _stream(self._rows, batch, seed)
      else:
        self._drawn = _draw(self._rows, seed, self._shares)
    padding = self._rows[0].pad_row()
    if corrupt is not None:
      fixed = Fixed(self._rows[0], corrupt)
      padding = fixed.pad_row()
      if self._ordered:
        self._rows = [fixed]
      else:
        self._drawn = Fresh(self._drawn, mixture.Joined(self._rows), corrupt, seed)
    self._shapes = {batched(key): (batch, *x.shape) for key, x in padding.items()}
    self._shardings = batch_shardings(mesh, self._shapes)

  @property
  def bytes_V(self):
    """See Tokenizer.bytes_V: for bits per byte."""
    return self.tokenizer.bytes_V

  def __len__(self) -> int:
    """Steps that see every row once (the last may be partly filled)."""
    if len(self._rows) > 1:
      raise Mistake("a mixture has no length: its sources end at different steps")
    return -(-len(self._rows[0]) // self.batch)

  def epoch(self, step: int) -> float:
    """Passes made before `step`; of a mixture, over the source that was seen most."""
    seen = step * self.batch
    return max(
      seen * share / len(rows)
      for share, rows in zip(self._shares, self._rows, strict=True)
    )

  def __call__(self, step: int) -> dict:
    """The batch of `step`; every process reads only the rows that its devices hold."""
    read = functools.cache(functools.partial(self._row, step))  # not once per replica

    def local(key, index):
      places, columns = range(self.batch)[index[0]], index[1]
      return np.stack([read(place)[_of_row(key)][columns] for place in places])

    return {
      key: jax.make_array_from_callback(
        shape, self._shardings[key], functools.partial(local, key)
      )
      for key, shape in self._shapes.items()
    }

  def prefetch(self, start: int, stop: int | None = None, *, ahead: int = 2):
    """Yields the batches of steps start to stop (None: the end), made by a thread.

    It stays `ahead` batches in front, on the devices. What goes wrong in the thread is
    raised here; closing the iterator, or leaving it, ends the thread.
    """
    if stop is None and self._ordered:
      stop = len(self)
    steps = iter(itertools.count(start) if stop is None else range(start, stop))
    pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
    try:
      waiting = collections.deque(
        pool.submit(self, step) for step in itertools.islice(steps, ahead)
      )
      while waiting:
        batch = waiting.popleft().result()
        waiting.extend(pool.submit(self, step) for step in itertools.islice(steps, 1))
        yield batch
    finally:
      pool.shutdown(cancel_futures=True)

  def digest(self, step: int) -> str:
    """A sha256 of the global batch of `step`, whatever this process holds of it."""
    digest = hashlib.sha256()
    for place in range(self.batch):
      row = self._row(step, place)
      for key in sorted(row):
        digest.update(row[key].tobytes())
    return digest.hexdigest()

  def _row(self, step: int, place: int) -> dict:
    index = step * self.batch + place
    if not self._ordered:
      return self._drawn[index]
    if not 0 <= step < len(self):
      raise IndexError(f"step {step} of a loader with {len(self)} steps")
    rows = self._rows[0]
    return rows[index] if index < len(rows) else rows.pad_row()


class Fresh:
  """Rows by index, corrupted anew at every index: for training."""

  def __init__(self, drawn, rows, corrupt, seed: int):
    self._drawn, self._rows, self._corrupt, self._seed = drawn, rows, corrupt, seed

  def __getitem__(self, index: int) -> dict:
    draw = np.random.default_rng([1, self._seed % 2**32, index])
    return self._corrupt(self._drawn[index], draw, rows=self._rows)


class Fixed:
  """Rows in order, each corrupted the same way whenever it is read: held-out text."""

  def __init__(self, rows, corrupt):
    self._rows, self._corrupt = rows, corrupt

  def __len__(self) -> int:
    return len(self._rows) * self._corrupt.views

  def __getitem__(self, index: int) -> dict:
    row, view = divmod(int(index), self._corrupt.views)
    draw = np.random.default_rng([0, row])
    return self._corrupt(self._rows[row], draw, rows=self._rows, view=view)

  def pad_row(self) -> dict:
    draw = np.random.default_rng(0)
    return self._corrupt(self._rows.pad_row(), draw, rows=self._rows, view=0)


def batched(key: str) -> str:
  """The name in a batch of what a row calls `key`: "tokens_BT" for "tokens_T"."""
  name, _, letters = key.rpartition("_")
  return f"{name}_B{letters}"


def _of_row(key: str) -> str:
  name, _, letters = key.rpartition("_")
  return f"{name}_{letters[1:]}"


def check_divides(mesh, *, batch, seq):
  """Raises Mistake when a batch of these sizes does not divide over the mesh."""
  for (name, size), axes in zip(
    (("batch", batch), ("seq", seq)), spec("BT"), strict=True
  ):
    axes = (axes,) if isinstance(axes, str) else axes
    parts = int(np.prod([mesh.shape[axis] for axis in axes]))
    if size < 1 or size % parts:
      raise Mistake(
        f"{name}={size} does not divide over mesh {'*'.join(axes)}={parts}; wanted a "
        f"multiple of {parts}"
      )


def _stream(rows, batch: int, seed: int):
  """All rows for ever, by index, in an order in which batches go on (`pack.Stream`)."""
  if len(rows) > 1:
    raise Mistake(
      f"pack 'stream' takes one source, got {len(rows)}; use 'concat' for a mixture"
    )
  return pack.Stream(rows[0], batch, seed)


def _draw(rows, seed: int, shares):
  """All rows for ever, by index: each source in a new order every epoch.

  Grain shuffles epoch e with seed + e, so the seeds of runs and of sources are hashed
  far apart; it mixes by whole numbers of which the least is 100.
  """
  import grain

  parts = [
    grain.MapDataset.source(part)
    .shuffle(seed=zlib.crc32(f"rows of source {i}, seed {seed}".encode()))
    .repeat()
    for i, part in enumerate(rows)
  ]
  return parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, shares)
