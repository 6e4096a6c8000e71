"""One walk over a family's table, both ways: their tensors as our parameters, and back.

A table is rows of (ours, theirs, reshape). "{}" in a name of theirs is the number of a
layer (a second one, of an expert), which ours has as leading dimensions. Each tensor on
either side is used exactly once, and one at a time: beyond the model itself, memory
holds one parameter's share of one device.
"""

import itertools
import math
import re
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from lm.disk.safetensors import DTYPES, Tensor
from lm.errors import Mistake
from lm.stores.hf.reshape import Reshape, same
from lm.trees import by_path

# Dtypes whose values float32 holds exactly.
WEIGHTS = ("F32", "BF16", "F16", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4")


class Row(NamedTuple):
  ours: tuple[str, ...]  # paths of parameters, such as "blocks/layer/attention/q"
  theirs: str  # "" where they have none
  reshape: Reshape


def row(ours: str, theirs: str, reshape: Reshape) -> Row:
  """A row; several of ours are separated by spaces."""
  return Row(tuple(ours.split()), theirs, reshape)


def layers(ours: str, theirs: str, *rows) -> list[Row]:
  """The rows of one layer, with what all their paths and names begin with."""
  return [
    row(
      " ".join(ours + path for path in paths.split()), name and theirs + name, reshape
    )
    for paths, name, reshape in rows
  ]


def linear(ours: str, theirs: str, reshape: Reshape, bias: Reshape = same) -> list:
  """The rows of a matrix and its bias, for `layers`."""
  return [(ours, f"{theirs}.weight", reshape), (f"{ours}_bias", f"{theirs}.bias", bias)]


def norm(ours: str, theirs: str) -> list:
  """The rows of a norm with a bias, for `layers`."""
  return [
    (f"{ours}/scale", f"{theirs}.weight", same),
    (f"{ours}/bias", f"{theirs}.bias", same),
  ]


def named_as(rows: list[Row], prefix: str, names) -> list[Row]:
  """The rows; without the prefix if the file, of a model without a head, has none."""
  if any(name.startswith(prefix) for name in names):
    return rows
  return [each._replace(theirs=each.theirs.removeprefix(prefix)) for each in rows]


class Table:
  """The rows of a family bound to the shapes of one model's parameters.

  `tensors` tells of every tensor that they have: name -> shape. A row whose parameters
  the model lacks (a bias, an untied readout) is left out.
  """

  def __init__(self, rows, shapes: dict[str, tuple[int, ...]]):
    self._shapes = shapes
    self._of = {}  # path -> its row, and which of the row's parameters it is
    self._source = {}  # name of theirs -> its row, and the numbers in the name
    for each in rows:
      known = [path in shapes for path in each.ours]
      if not any(known):
        continue
      assert all(known), f"half of {each.ours} is in the model"
      for part, path in enumerate(each.ours):
        assert path not in self._of, f"two rows for {path}"
        self._of[path] = each, part
      if each.theirs:
        for numbers in itertools.product(*map(range, self.stack(each))):
          name = each.theirs.format(*numbers)
          self._source.setdefault(name, []).append((each, numbers))
    missing = sorted(set(shapes) - set(self._of))
    assert not missing, f"no row for {', '.join(missing)}"
    self.tensors = {
      name: tuple(each.reshape.shape(self._inner(each)))
      for name, [(each, _), *_] in self._source.items()
    }

  def stack(self, each: Row) -> tuple[int, ...]:
    """The sizes of the leading dimensions that the names of theirs count."""
    return self._shapes[each.ours[0]][: each.theirs.count("{}")]

  def _inner(self, each: Row) -> list[tuple[int, ...]]:
    count = each.theirs.count("{}")
    return [self._shapes[path][count:] for path in each.ours]

  def into(self, path: str, read, index) -> np.ndarray:
    """The part `index` of our parameter in float32, from `read(name)` of theirs."""
    each, part = self._of[path]
    count = each.theirs.count("{}")
    ranges = [range(n)[at] for n, at in zip(self._shapes[path], index, strict=True)]
    sizes = [len(r) for r in ranges]

    def piece(numbers):
      name = each.theirs.format(*numbers)
      theirs = read(name) if name else None
      ours = each.reshape.into(theirs, self._inner(each))[part]
      if np.ndim(ours) == 0:
        return np.full(sizes[count:], ours)
      # Not copied where it is float32 already and whole.
      ours = np.asarray(ours[index[count:]], np.float32)
      if not np.isfinite(ours).all():
        raise Mistake(
          f"{name} has values that are not finite; its file is damaged or its training "
          "had diverged: fetch it again"
        )
      return ours

    if not count:
      return piece(())
    shard = np.empty(sizes, np.float32)
    for place in itertools.product(*map(range, sizes[:count])):
      shard[place] = piece([r[i] for r, i in zip(ranges, place, strict=False)])
    return shard

  def units(self) -> list[tuple[set[str], list[str]]]:
    """(paths, names): parameters, and the tensors of theirs that they make, alone.

    As small as can be: mostly one parameter, and its layers in theirs.
    """
    units = []
    for name, sources in self._source.items():
      paths, names = {path for each, _ in sources for path in each.ours}, [name]
      for unit in [each for each in units if each[0] & paths]:
        units.remove(unit)
        paths, names = unit[0] | paths, unit[1] + names
      units.append((paths, names))
    return units

  def name_of(self, path: str) -> str:
    """Their name of what our parameter is made of."""
    return self._of[path][0].theirs

  def back(self, name: str, params: dict[str, np.ndarray]) -> np.ndarray:
    """A tensor of theirs in float32, from our parameters by path."""
    found = []
    for each, numbers in self._source[name]:
      ours = [params[path][numbers] for path in each.ours]
      found.append(each.reshape.back(ours))
    if not all(np.array_equal(found[0], other) for other in found[1:]):
      raise Mistake(
        f"{name} was one tensor, tied, and is two now; write them apart, with --family"
      )
    return found[0]

  def check_constants(self, params: dict):
    """Raises Mistake when a parameter holds what theirs has no tensor for."""
    for path, (each, _) in self._of.items():
      if not each.theirs and each.reshape.shape is None:
        [value] = each.reshape.into(None, [()])
        if np.any(np.asarray(params[path]) != value):
          raise Mistake(
            f"{path} cannot be written: this family has no such tensor, and ours is "
            f"not {value:g} everywhere; choose another --family"
          )


def load(source, table: Table, abstract, *, ignored: str = ""):
  """The parameters that `abstract` wants, each on its devices, from a source.

  A source has `tensors` (name -> Tensor) and `read(name)`; `abstract` is a tree of
  ShapeDtypeStruct with shardings; what matches `ignored` need not be used. Raises
  Mistake for a tensor that is missing, misshapen or left over, before any is read,
  and for one that holds no finite numbers.
  """
  check(table.tensors, source.tensors, ignored)

  def read(name):
    source.forget()  # the one before
    return source.read(name)

  leaves = by_path(abstract)
  made = {}
  # The largest first: what one tensor needs besides itself is then no more than what
  # the model will have grown by.
  for path in sorted(leaves, key=lambda path: -math.prod(leaves[path].shape)):
    shape, where = leaves[path].shape, leaves[path].sharding
    made[path] = _sharded(shape, where, partial(table.into, path, read))
  source.forget()
  return jax.tree.unflatten(jax.tree.structure(abstract), [made[p] for p in leaves])


def _sharded(shape, where, make):
  """The array whose shares `make(index)` gives; one at a time is in host memory."""
  shares = {}  # those that several devices have are made once
  for device, index in where.addressable_devices_indices_map(shape).items():
    shares.setdefault(str(index), (index, []))[1].append(device)
  parts = []
  for index, devices in shares.values():
    share = make(index)
    parts += jax.block_until_ready([jax.device_put(share, each) for each in devices])
    del share  # before the next
  return jax.make_array_from_single_device_arrays(shape, where, parts)


def check(wanted: dict, found: dict[str, Tensor], ignored: str = ""):
  """Raises Mistake unless the tensors found are those wanted."""
  for name, shape in wanted.items():
    if name not in found:
      raise Mistake(f"no tensor {name} of {list(shape)}; {_why_missing(name, found)}")
    dtype, got = found[name].dtype, found[name].shape
    if got != shape:
      raise Mistake(
        f"{name} is {list(got)}, wanted {list(shape)}; {_why_misshapen(got, shape)}"
      )
    if dtype not in WEIGHTS:
      raise Mistake(
        f"{name} is {dtype}, which is no dtype of weights here; wanted one of "
        f"{', '.join(WEIGHTS)}"
      )
  left = [
    n for n in found if n not in wanted and not (ignored and re.search(ignored, n))
  ]
  if left:
    name, more = left[0], f" and {len(left) - 1} more" if left[1:] else ""
    raise Mistake(
      f"{name} {list(found[name].shape)}{more} would not be used; "
      f"{_why_left(name, wanted)}"
    )


def _numbers(name: str) -> tuple[str, list[int]]:
  """A name without its numbers, and those."""
  return re.sub(r"\d+", "{}", name), [int(n) for n in re.findall(r"\d+", name)]


def _why_missing(name: str, found) -> str:
  pattern, numbers = _numbers(name)
  alike = [_numbers(other)[1] for other in found if _numbers(other)[0] == pattern]
  if alike and numbers:
    return (
      f"there are {len(alike)} like it: config.json asks for more layers than the "
      "files have, or a file is missing"
    )
  if name.startswith("lm_head"):
    return (
      "config.json says that the readout is not tied: is tie_word_embeddings wrong?"
    )
  return "the files are those of another family, or not all of a model"


def _why_left(name: str, wanted) -> str:
  if any(_numbers(other)[0] == _numbers(name)[0] for other in wanted):
    return "config.json has fewer layers than the files: it is of another model"
  if name.endswith(".bias"):
    return "config.json says that there is no such bias"
  return "this family has no such tensor: it is an adapter, a head or another family"


def _why_misshapen(got, wanted) -> str:
  if math.prod(got) == math.prod(wanted):
    return "the same number of values, so config.json divides or transposes them anew"
  return "config.json is of another model"


def rounded(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  """float32 as the dtype of a file; Mistake where that makes a number infinite."""
  with np.errstate(over="ignore"):  # it is told below, with its name
    out = array.astype(DTYPES[dtype][0])
  if dtype != "F32" and not np.isfinite(out.astype(np.float32)).all():
    most = float(np.abs(array).max())
    raise Mistake(
      f"{name} has values up to {most:.3g}, more than {dtype} can hold; convert with "
      "--dtype=float32 or --dtype=bfloat16"
    )
  return out
