"""One walk over a family's mapping, both ways: tensors of a checkpoint <-> parameters.

A mapping is rows of (our paths, tensor name, reshape). "{}" in a tensor name is the
number of a layer (a second one, of an expert), which ours has as leading dimensions.
Each tensor on either side is used exactly once, and one at a time: beyond the model
itself, memory holds one parameter's shard of one device.
"""

import math
import re
from functools import partial

import jax
import numpy as np

from lm.disk.safetensors import DTYPES, Tensor
from lm.errors import Mistake
from lm.stores.hf.mapping import Mapping

# Dtypes that parameters are held in and tensors written in -> their names in the files.
NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
# Dtypes whose values float32 holds exactly.
WEIGHT_DTYPES = ("F32", "BF16", "F16", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4")


def load(source, mapping: Mapping, wanted: dict, *, ignored: str = "") -> dict:
  """Returns the parameters `wanted`, {path: ShapeDtypeStruct with a sharding}, by path.

  A source has `tensors` (name -> Tensor), `read(name)` and `forget()`; tensors whose
  names match the regex `ignored` need not be used. Raises Mistake for a tensor that is
  missing, misshapen or left over, before any is read, and for one with values that are
  not finite.
  """
  check(mapping.tensors, source.tensors, ignored)

  def read(name):
    source.forget()  # the tensor before
    return source.read(name)

  params = {}
  # The largest first: what one tensor needs besides itself is then no more than what
  # the model will have grown by.
  for path in sorted(wanted, key=lambda path: -math.prod(wanted[path].shape)):
    shape, sharding = wanted[path].shape, wanted[path].sharding
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    make = partial(_made, mapping, path, read, NAMES[wanted[path].dtype.name])
    params[path] = _sharded(shape, sharding, make)
  source.forget()
  return params


def _made(mapping: Mapping, path: str, read, dtype: str, index) -> np.ndarray:
  """Returns a part of a parameter, rounded to a dtype of WEIGHT_DTYPES."""
  array = mapping.into(path, read, index)
  return array if dtype == "F32" else rounded(path, array, dtype)


def _sharded(shape, sharding, make):
  """Returns the array whose shards `make(index)` gives; one at a time is in memory."""
  shards = {}  # index -> devices: a shard of several devices is made once
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    shards.setdefault(str(index), (index, []))[1].append(device)
  arrays = []
  for index, devices in shards.values():
    shard = make(index)
    arrays += jax.block_until_ready([jax.device_put(shard, d) for d in devices])
    del shard  # before the next
  return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


class Stored:
  """A parameter on disk, which `np.asarray` reads from its tensors in float32."""

  def __init__(self, source, mapping: Mapping, path: str, shape):
    self._source, self._mapping, self._path = source, mapping, path
    self.shape, self.dtype = shape, np.dtype(np.float32)

  def __array__(self, dtype=None, copy=None):
    everything = (slice(None),) * len(self.shape)
    array = self._mapping.into(self._path, self._source.read, everything)
    self._source.forget()
    return array if dtype is None else array.astype(dtype)


def check(wanted: dict, stored: dict[str, Tensor], ignored: str = ""):
  """Raises Mistake unless the stored tensors are those wanted, {name: shape}."""
  for name, shape in wanted.items():
    if name not in stored:
      raise Mistake(f"no tensor {name} of {list(shape)}; {_why_missing(name, stored)}")
    dtype, stored_shape = stored[name].dtype, stored[name].shape
    if stored_shape != shape:
      raise Mistake(
        f"{name} is {list(stored_shape)}, wanted {list(shape)}; "
        f"{_why_misshapen(stored_shape, shape)}"
      )
    if dtype not in WEIGHT_DTYPES:
      raise Mistake(
        f"{name} is {dtype}, which is no dtype of weights here; wanted one of "
        f"{', '.join(WEIGHT_DTYPES)}"
      )
  unused = [
    name
    for name in stored
    if name not in wanted and not (ignored and re.search(ignored, name))
  ]
  if unused:
    name, others = unused[0], f" and {len(unused) - 1} more" if unused[1:] else ""
    raise Mistake(
      f"{name} {list(stored[name].shape)}{others} would not be used; "
      f"{_why_unused(name, wanted)}"
    )


def _numbers(name: str) -> tuple[str, list[int]]:
  """Returns a name with "{}" for its numbers, and the numbers."""
  return re.sub(r"\d+", "{}", name), [int(n) for n in re.findall(r"\d+", name)]


def _why_missing(name: str, stored) -> str:
  pattern, numbers = _numbers(name)
  alike = [other for other in stored if _numbers(other)[0] == pattern]
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


def _why_unused(name: str, wanted) -> str:
  if any(_numbers(other)[0] == _numbers(name)[0] for other in wanted):
    return "config.json has fewer layers than the files: it is of another model"
  if name.endswith(".bias"):
    return "config.json says that there is no such bias"
  return "this family has no such tensor: it is an adapter, a head or another family"


def _why_misshapen(stored, wanted) -> str:
  if math.prod(stored) == math.prod(wanted):
    return "the same number of values, so config.json divides or transposes them anew"
  return "config.json is of another model"


def rounded(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  """Returns float32 as the dtype of a file; Mistake where a number becomes infinite."""
  with np.errstate(over="ignore"):  # reported below, with the tensor's name
    out = array.astype(DTYPES[dtype][0])
  if dtype != "F32" and not np.isfinite(out.astype(np.float32)).all():
    largest = float(np.abs(array).max())
    raise Mistake(
      f"{name} has values up to {largest:.3g}, more than {dtype} can hold; convert "
      "with --dtype=float32 or --dtype=bfloat16"
    )
  return out
