"""Trees of arrays on disk: all of Orbax that this codebase touches.

A state is stored as one folder per top-level field ("params", "opt", ...), each a
nested dict of its arrays by their path, whatever containers the optimiser is made of.
So one field can be read, and checked, without the bytes of the others.

Orbax and TensorStore take paths for patterns and URLs ("[2]", "gs:/"), so they get
those of `paths.Opened`.
"""

import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from lm.disk import paths
from lm.disk.digest import Damaged
from lm.trees import by_field, by_path

MANIFEST = "manifest.ocdbt"  # of a field: where in which file its arrays are


class Writer:
  """Writes in the background, one state at a time."""

  def __init__(self):
    ocp = _orbax()
    self._checkpointer = ocp.AsyncCheckpointer(_handler())
    self._opened = None

  def start(self, folder, name: str, fields: dict) -> None:
    """Starts to write `fields` (see trees.by_field) into `name`, new in a folder.

    Returns once the arrays are in host memory: the caller may donate them then. On CPU,
    where host memory is device memory, they are held instead, and XLA copies what a
    donating step would overwrite.
    """
    ocp = _orbax()
    requests = {
      field: ocp.args.PyTreeSave(_nest(leaves)) for field, leaves in fields.items()
    }
    args = ocp.args.Composite(**requests)
    self._opened = paths.Opened(folder)
    self._checkpointer.save(self._opened.path / name, args=args)

  def wait(self) -> None:
    """Returns once all processes have written; raises what went wrong."""
    self._checkpointer.wait_until_finished()
    # After an error it stays open: other writes of the step may still go on, and its
    # number must not be another folder's then.
    self._opened.close()

  def close(self) -> None:
    """Stops the threads of Orbax."""
    self._checkpointer.close()


def check(folder, described: dict) -> None:
  """Raises Damaged unless all arrays of `described` (see trees.describe) can be read.

  Every array has to be in the manifest of its field with its shape, and the first byte
  of each of its chunks has to be where the manifest has it.
  """
  fields = {}
  for path, description in described.items():
    field, _, name = path.partition("/")
    shape = json.loads(description[description.index("[") :])
    fields.setdefault(field, {})[(name or _LEAF).replace("/", ".")] = shape
  with paths.Opened(folder) as opened:
    for field, shapes in fields.items():
      if not (opened / field / MANIFEST).is_file():
        raise Damaged(f"{field}/{MANIFEST} is missing")
      try:
        _check_field(opened / field, field, shapes)
      except ValueError as error:  # TensorStore's
        raise Damaged(f"{field}: {error}") from error


def _check_field(folder, field: str, shapes: dict) -> None:
  import tensorstore

  base = {"driver": "file", "path": f"{folder}/"}
  store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
  headers = {name: store.read(f"{name}/.zarray") for name in shapes}
  chunks = []
  for name, shape in shapes.items():
    header = json.loads(headers[name].result().value or "{}")
    if header.get("shape") != shape:
      raise Damaged(f"{field}/{name} is not in {MANIFEST}")
    counts = [-(-n // size) for n, size in zip(shape, header["chunks"], strict=True)]
    for index in itertools.product(*map(range, counts)):
      chunks.append(f"{name}/{'.'.join(map(str, index)) or '0'}")
  first = slice(0, 1)
  reads = [store.read(name, byte_range=first) for name in chunks]
  for name, read in zip(chunks, reads, strict=True):
    if not read.result().value:
      raise Damaged(f"{field}/{name} is not in {MANIFEST}")


def read(folder, abstract):
  """Returns the arrays of `abstract`, a tree of ShapeDtypeStruct with shardings.

  Only the fields and leaves that `abstract` has are read. A leaf without a sharding
  comes to the first device.
  """
  ocp = _orbax()
  fields = by_field(jax.tree.map(_with_sharding, abstract))
  requests = {}
  for field, leaves in fields.items():
    tree = _nest(leaves)
    restore_args = ocp.checkpoint_utils.construct_restore_args(tree)
    requests[field] = ocp.args.PyTreeRestore(
      tree, restore_args=restore_args, partial_restore=True
    )
  with paths.Opened(folder) as opened, ocp.Checkpointer(_handler()) as checkpointer:
    restored = checkpointer.restore(opened, args=ocp.args.Composite(**requests))
  arrays = by_path(dict(restored))
  ordered = [
    arrays[f"{field}/{path or _LEAF}"]
    for field, leaves in fields.items()
    for path in leaves
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), ordered)


@dataclass(frozen=True)
class Stored:
  """An array on disk, read by `np.asarray`: twice its size in memory, for a moment."""

  folder: Path
  field: str
  path: str
  shape: tuple[int, ...]
  dtype: np.dtype

  def __array__(self, dtype=None, copy=None):
    ocp = _orbax()
    tree = _nest({self.path: jax.ShapeDtypeStruct(self.shape, self.dtype)})
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    request = ocp.args.PyTreeRestore(tree, restore_args=as_numpy, partial_restore=True)
    args = ocp.args.Composite(**{self.field: request})
    with (
      paths.Opened(self.folder) as opened,
      ocp.Checkpointer(_handler()) as checkpointer,
    ):
      [array] = jax.tree.leaves(dict(checkpointer.restore(opened, args=args)))
    return array.astype(self.dtype if dtype is None else dtype, copy=False)


def stored(folder, abstract):
  """Returns a tree like `abstract`, of fields, whose leaves are `Stored`."""
  leaves = [
    Stored(folder, field, path, leaf.shape, leaf.dtype)
    for field, leaves in by_field(abstract).items()
    for path, leaf in leaves.items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def barrier(key: str, *, timeout_s: int = 1200) -> None:
  """Waits for all processes without using the devices, so that any thread may call it.

  The timeout is Orbax's own for a write.
  """
  ocp = _orbax()
  ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_s * 1000)


def _orbax():
  """Imports the library when it is first needed, and silences its log.

  Its log holds pages of lines and tracebacks, and nothing that we do not raise in one
  line ourselves.
  """
  import orbax.checkpoint as ocp

  logging.getLogger("absl").addFilter(_not_orbax)
  return ocp


def _not_orbax(record) -> bool:
  return "orbax" not in record.pathname


def _handler():
  """Returns Orbax's handler of plain, uncompressed bytes.

  Weights compress by 8 %, and zstd takes 4 times the CPU time to write and 5 times as
  long to read (100 MB, two cores).
  """
  ocp = _orbax()
  handler = ocp.PyTreeCheckpointHandler(use_compression=False)
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  registry.add(None, ocp.args.PyTreeSave, handler)
  registry.add(None, ocp.args.PyTreeRestore, handler)
  return ocp.CompositeCheckpointHandler(handler_registry=registry)


def _with_sharding(leaf):
  if leaf.sharding is not None:
    return leaf
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)


_LEAF = "value"  # the name of a field that is an array itself, like `step`


def _nest(leaves: dict) -> dict:
  """Returns {"a/b": x} as {"a": {"b": x}}."""
  tree = {}
  for path, leaf in leaves.items():
    *folders, name = (path or _LEAF).split("/")
    inner = tree
    for folder in folders:
      inner = inner.setdefault(folder, {})
    inner[name] = leaf
  return tree
