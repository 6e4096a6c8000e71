"""Trees of arrays on disk: all of Orbax that this codebase touches.

A state is stored as one folder per top-level field ("params", "opt", ...), each a
nested dict of its arrays by their path, whatever containers the optimiser is made of.
So one field can be read, and checked, without the bytes of the others.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from lm.trees import path_name


def parts(tree) -> dict[str, dict[str, object]]:
  """The leaves of `tree`, by top-level field and then by path ("blocks/attention/q").

  Fields without arrays do not appear.
  """
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = path_name(path[:1])
    found.setdefault(name, {})[path_name(path[1:])] = leaf
  return found


def describe(leaves_of: dict) -> dict[str, str]:
  """Shape and dtype of every leaf of `parts`: {"params/embed": "float32[256,64]"}."""
  return {
    f"{part}/{path}".rstrip("/"): f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")
    for part, leaves in leaves_of.items()
    for path, leaf in leaves.items()
  }


def within(name: str, folder: str) -> bool:
  return name == folder or name.startswith(f"{folder}/")


def mismatch(saved: dict[str, str], abstract, field: str = "") -> str:
  """How the arrays that `describe` told of differ from `abstract`; "" if they do not.

  With a `field`, only that one is compared.
  """
  wanted = describe(parts(abstract))
  for name in sorted({*saved, *wanted}):
    if saved.get(name) != wanted.get(name) and (not field or within(name, field)):
      there, here = saved.get(name, "absent"), wanted.get(name, "absent")
      return f"{name} is {there} in it, {here} was wanted"
  return ""


class Writer:
  """Writes in the background; one write at a time."""

  def __init__(self):
    ocp = _orbax()
    self._checkpointer = ocp.AsyncCheckpointer(_handler())

  def start(self, folder, leaves_of: dict) -> None:
    """Returns once the arrays are in host memory: the caller may donate them then.

    On CPU, where host memory is device memory, they are held instead, and XLA copies
    what a donating step would overwrite.
    """
    ocp = _orbax()
    trees = {
      part: ocp.args.PyTreeSave(_nest(leaves)) for part, leaves in leaves_of.items()
    }
    self._checkpointer.save(folder, args=ocp.args.Composite(**trees))

  def wait(self) -> None:
    """Returns once all processes have written; raises what went wrong."""
    self._checkpointer.wait_until_finished()

  def close(self) -> None:
    self._checkpointer.close()


def read(folder, abstract):
  """The arrays of `abstract`, a tree of ShapeDtypeStruct, on the devices it names.

  Only the fields that `abstract` has are read. A leaf without a sharding comes to the
  first device.
  """
  ocp = _orbax()
  wanted = parts(jax.tree.map(_placed, abstract))
  requests = {}
  for part, leaves in wanted.items():
    tree = _nest(leaves)
    where = ocp.checkpoint_utils.construct_restore_args(tree)
    requests[part] = ocp.args.PyTreeRestore(tree, restore_args=where)
  with ocp.Checkpointer(_handler()) as checkpointer:
    found = dict(checkpointer.restore(folder, args=ocp.args.Composite(**requests)))
  loaded = {
    path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(found)
  }
  leaves = [
    loaded[f"{part}/{path or _LEAF}"]
    for part, leaves in wanted.items()
    for path in leaves
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


@dataclass(frozen=True)
class Stored:
  """An array on the disk, which `np.asarray` reads: twice its size, for a moment."""

  folder: Path
  part: str
  path: str
  shape: tuple[int, ...]
  dtype: np.dtype

  def __array__(self, dtype=None, copy=None):
    ocp = _orbax()
    wanted = _nest({self.path: jax.ShapeDtypeStruct(self.shape, self.dtype)})
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    request = ocp.args.PyTreeRestore(wanted, restore_args=how, partial_restore=True)
    args = ocp.args.Composite(**{self.part: request})
    with ocp.Checkpointer(_handler()) as checkpointer:
      [found] = jax.tree.leaves(dict(checkpointer.restore(self.folder, args=args)))
    return found if dtype is None else found.astype(dtype)


def stored(folder, abstract):
  """A tree as `abstract`, of fields, whose leaves are `Stored`."""
  found = [
    Stored(folder, part, path, leaf.shape, leaf.dtype)
    for part, leaves in parts(abstract).items()
    for path, leaf in leaves.items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), found)


def barrier(key: str, *, timeout_s: int = 1200) -> None:
  """Waits for all processes without using the devices, so that any thread may call it.

  The timeout is Orbax's own for a write.
  """
  ocp = _orbax()
  ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_s * 1000)


def _orbax():
  """The library, imported when first needed, without its pages of log lines.

  They hold nothing that we do not raise, in one line, and include tracebacks.
  """
  import orbax.checkpoint as ocp

  logging.getLogger("absl").addFilter(_not_orbax)
  return ocp


def _not_orbax(record) -> bool:
  return "orbax" not in record.pathname


def _handler():
  """Plain bytes: weights compress by 8 %, and zstd takes 4 times the CPU time to write
  and 5 times as long to read (100 MB, two cores)."""
  ocp = _orbax()
  trees = ocp.PyTreeCheckpointHandler(use_compression=False)
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  registry.add(None, ocp.args.PyTreeSave, trees)
  registry.add(None, ocp.args.PyTreeRestore, trees)
  return ocp.CompositeCheckpointHandler(handler_registry=registry)


def _placed(leaf):
  if leaf.sharding is not None:
    return leaf
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


_LEAF = "value"  # the name of a field that is an array itself, like `step`


def _nest(leaves: dict) -> dict:
  tree = {}
  for path, leaf in leaves.items():
    *folders, name = (path or _LEAF).split("/")
    inner = tree
    for folder in folders:
      inner = inner.setdefault(folder, {})
    inner[name] = leaf
  return tree
