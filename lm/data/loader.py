"""Rows to global sharded batches, each a pure function of (seed, step).

    loader = Loader(dataset.rows("train", seq), batch=16, mesh=mesh, seed=0)
    batch = loader(step)          # {"tokens_BT": jax.Array, ...}

Nothing is iterated, so there is no state to save: step 1000 after a restart, on another
number of hosts, is the step 1000 that would have been. Grain computes the order of the
rows: shuffled anew in every epoch, and sources mixed in fixed proportions, by index.
"""

import collections
import functools
import hashlib
import itertools
import math
import zlib
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from lm.data.rows import ArrayShape, Rows
from lm.errors import Mistake, one_of
from lm.letters import batch_shardings, suffix

NAMES = {"B": "batch", "T": "seq"}  # what a config calls these sizes


class Loader:
  """`loader(step)` is the batch of that step: global jax.Arrays by name.

  order "shuffled": every epoch has all rows of a source once in an order drawn from
    `seed`; sources are mixed by their shares (`Rows.groups`). It never ends.
  order "carried": place b of a batch continues place b of the batch before. Places
    start at equal distances, the first one at a row that `seed` draws. It never ends.
  order "once": all rows in order, for evaluation. It ends after `len(loader)` steps;
    the last batch is filled up with rows of weight 0, so that sums over the batches do
    not depend on the batch size.

  `shapes` are those of a batch as jax.ShapeDtypeStruct, sharded as it. Raises Mistake
  for an unknown order, for a batch that does not divide over the mesh, and if "carried"
  has fewer rows than places.
  """

  def __init__(self, rows: Rows, *, batch: int, mesh, order="shuffled", seed: int = 0):
    self._rows, self.batch, self._seed = rows, batch, seed
    self.order = one_of("order", order, ORDERS)
    row_shapes = rows.shapes()
    self._key_of_row = {batched(key): key for key in row_shapes}
    self.shapes = batch_shapes(row_shapes, batch=batch, mesh=mesh)
    self._order = ORDERS[order](rows, batch, seed)

  def __len__(self) -> int:
    """Returns the number of steps that read every row once; the last may be partial."""
    if len(self._rows.groups()) > 1 and self.order != "once":
      raise Mistake("a mixture has no length: its sources end at different steps")
    return -(-len(self._rows) // self.batch)

  def epoch(self, step: int) -> float:
    """Returns the passes before `step`; of a mixture, over the source read most."""
    seen = step * self.batch
    return max(seen * share / num_rows for num_rows, share in self._rows.groups())

  def __call__(self, step: int) -> dict:
    """Returns the batch of `step`; a process reads only the rows of its devices."""
    read = functools.cache(functools.partial(self._row, step))  # not once per replica

    def local(key, index):
      places, rest = range(self.batch)[index[0]], index[1:]
      return np.stack([read(place)[self._key_of_row[key]][rest] for place in places])

    return {
      key: jax.make_array_from_callback(
        shape.shape, shape.sharding, functools.partial(local, key)
      )
      for key, shape in self.shapes.items()
    }

  def prefetch(self, steps, ahead: int = 2):
    """Yields the batches of an iterable of steps, made by a thread.

    It stays `ahead` batches in front, on the devices. An error of the thread is raised
    here; closing the iterator, or leaving it, ends the thread.
    """
    steps = iter(steps)
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
    """Returns a sha256 of the global batch of `step`, the same on every process."""
    digest = hashlib.sha256()
    for place in range(self.batch):
      row = self._row(step, place)
      for key in sorted(row):
        digest.update(row[key].tobytes())
    return digest.hexdigest()

  def _row(self, step: int, place: int) -> dict:
    """Returns the row at one place of the batch of `step`."""
    index = step * self.batch + place
    if self.order != "once":
      # The first number separates these draws from those of held-out rows.
      seed = 1, self._seed % 2**32, index
      return self._rows.drawn(int(self._order[index]), seed)
    if not 0 <= step < len(self):
      raise IndexError(f"step {step} of a loader with {len(self)} steps")
    return self._rows[index] if index < len(self._rows) else self._rows.padding()


def batched(key: str) -> str:
  """Returns the key in a batch of a row's array: "tokens_BT" for "tokens_T"."""
  name, _, letters = key.rpartition("_")
  assert name, f"row key {key!r} has no underscore"
  return f"{name}_B{letters}"


def batch_shapes(row_shapes: dict[str, ArrayShape], *, batch: int, mesh) -> dict:
  """Returns the arrays of a batch as jax.ShapeDtypeStruct, sharded over `mesh`.

  `row_shapes` are those of `lm.data.row_shapes` or `Rows.shapes`. Raises Mistake when
  they do not divide over the mesh.
  """
  if batch < 1:
    raise Mistake(f"batch={batch}; wanted 1 or more")
  shapes = {batched(key): (batch, *x.shape) for key, x in row_shapes.items()}
  shardings = batch_shardings(mesh, shapes)
  for key, shape in shapes.items():
    _check_divides(mesh, key, shape, shardings[key].spec)
  return {
    batched(key): jax.ShapeDtypeStruct(
      shapes[batched(key)], x.dtype, sharding=shardings[batched(key)]
    )
    for key, x in row_shapes.items()
  }


def _check_divides(mesh, key: str, shape: tuple, spec):
  for letter, size, axes in zip(suffix(key), shape, spec, strict=True):
    axes = (axes,) if isinstance(axes, str) else axes or ()
    parts = math.prod(mesh.shape[axis] for axis in axes)
    if size % parts:
      name = NAMES.get(letter, f"{letter} of {key}")
      raise Mistake(
        f"{name}={size} does not divide over mesh {'*'.join(axes)}={parts}; wanted a "
        f"multiple of {parts}"
      )


def _shuffled(rows: Rows, batch: int, seed: int):
  """Returns row numbers by index, without end; each epoch has a new order of a group.

  Grain shuffles epoch e with seed + e, so the seeds of runs and of sources are hashed
  far apart. It rounds shares down to whole numbers, the least of which is 100: they are
  those of `Rows.groups` to within 1 per cent.
  """
  import grain

  orders, shares, start = [], [], 0
  for number, (num_rows, share) in enumerate(rows.groups()):
    group_seed = zlib.crc32(f"rows of source {number}, seed {seed}".encode())
    numbers = grain.MapDataset.source(range(start, start + num_rows))
    orders.append(numbers.shuffle(seed=group_seed).repeat())
    shares.append(share)
    start += num_rows
  return orders[0] if len(orders) == 1 else grain.MapDataset.mix(orders, shares)


class _Carried:
  """Row numbers by index step * batch + place, without end: 0 follows the last row."""

  def __init__(self, rows: Rows, batch: int, seed: int):
    assert len(rows.groups()) == 1, "a state is carried through one source"
    self._num_rows, self._batch = len(rows), batch
    self._shift = zlib.crc32(f"start of the stream, seed {seed}".encode())
    if self._num_rows < batch:
      raise Mistake(
        f"order 'carried' needs a full row of text for each of batch={batch}, and "
        f"there are {self._num_rows}; give more text, a smaller seq or a smaller batch"
      )

  def __getitem__(self, index: int) -> int:
    step, place = divmod(int(index), self._batch)
    apart = self._num_rows // self._batch
    return (self._shift + place * apart + step) % self._num_rows


def _in_order(rows: Rows, batch: int, seed: int):
  """Returns the row numbers in order."""
  return range(len(rows))


ORDERS = {"shuffled": _shuffled, "carried": _Carried, "once": _in_order}
