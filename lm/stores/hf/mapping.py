"""The rows of a family, and the same rows bound to the shapes of one model."""

import itertools
from typing import NamedTuple

import numpy as np

from lm.errors import Mistake
from lm.stores.hf.reshape import Reshape, same


class Row(NamedTuple):
  """Parameters of ours that are one tensor of a checkpoint, or one a layer."""

  paths: tuple[str, ...]  # of parameters ("blocks/layer/attention/q"); () if derived
  hf: str  # the tensor's name, such as "model.layers.{}.mlp.up_proj.weight"; "" if none
  reshape: Reshape

  @property
  def num_stacked(self) -> int:
    """The leading dimensions of ours that the tensor's name counts: layers, experts."""
    return self.hf.count("{}")


def row(paths: str, hf: str, reshape: Reshape) -> Row:
  """Returns a row; several paths are separated by spaces."""
  return Row(tuple(paths.split()), hf, reshape)


def layers(prefix: str, hf_prefix: str, *rows) -> list[Row]:
  """Returns the rows (paths, hf, reshape) of one layer, with prefixes on all names."""
  return [
    row(
      " ".join(prefix + path for path in paths.split()),
      name and hf_prefix + name,
      reshape,
    )
    for paths, name, reshape in rows
  ]


def linear(path: str, hf: str, reshape: Reshape, bias: Reshape = same) -> list:
  """Returns the rows of a matrix and its bias, for `layers`."""
  return [(path, f"{hf}.weight", reshape), (f"{path}_bias", f"{hf}.bias", bias)]


def norm(path: str, hf: str) -> list:
  """Returns the rows of a norm with a bias, for `layers`."""
  return [
    (f"{path}/scale", f"{hf}.weight", same),
    (f"{path}/bias", f"{hf}.bias", same),
  ]


def without_prefix(rows: list[Row], prefix: str, names) -> list[Row]:
  """Returns the rows as the tensor names have them.

  The file of a model without a head lacks the prefix of the body.
  """
  if any(name.startswith(prefix) for name in names):
    return rows
  return [r._replace(hf=r.hf.removeprefix(prefix)) for r in rows]


class Mapping:
  """The rows of a family bound to the shapes of one model's parameters.

  `tensors` is the shape of every tensor by name, `sources` the rows that it is made
  of, with the numbers in its name: {name: [(row, numbers)]}. A row whose parameters
  the model lacks (a bias, an untied readout) is left out.
  """

  def __init__(self, rows, shapes: dict[str, tuple[int, ...]]):
    self._shapes = shapes
    self._row_of = {}  # path -> (its row, its index among the row's paths)
    self.sources = {}  # tensor name -> [(row, the numbers in the name)]
    for r in rows:
      present = [path in shapes for path in r.paths]
      if r.paths and not any(present):
        continue
      assert all(present), f"half of {r.paths} is in the model"
      for index, path in enumerate(r.paths):
        assert path not in self._row_of, f"two rows for {path}"
        self._row_of[path] = r, index
      if r.hf:
        for numbers in itertools.product(*map(range, self.stacked(r))):
          name = r.hf.format(*numbers)
          self.sources.setdefault(name, []).append((r, numbers))
    missing = sorted(set(shapes) - set(self._row_of))
    assert not missing, f"no row for {', '.join(missing)}"
    self.tensors = {
      name: tuple(r.reshape.shape(self._layer_shapes(r)))
      for name, [(r, _), *_] in self.sources.items()
    }

  def stacked(self, r: Row) -> tuple[int, ...]:
    """Returns the sizes of the leading dimensions that the tensor names count."""
    return self._shapes[r.paths[0]][: r.num_stacked] if r.paths else ()

  def _layer_shapes(self, r: Row) -> list[tuple[int, ...]]:
    return [self._shapes[path][r.num_stacked :] for path in r.paths]

  def into(self, path: str, read, index) -> np.ndarray:
    """Returns the part `index` of our parameter in float32.

    `read(name)` returns a tensor. Raises Mistake for values that are not finite.
    """
    r, part = self._row_of[path]
    count = r.num_stacked
    ranges = [range(n)[i] for n, i in zip(self._shapes[path], index, strict=True)]
    sizes = [len(indices) for indices in ranges]

    def of_layer(numbers):
      name = r.hf.format(*numbers)
      tensor = read(name) if name else None
      array = r.reshape.into(tensor, self._layer_shapes(r))[part]
      if np.ndim(array) == 0:
        return np.full(sizes[count:], array)
      # Not copied where it is float32 already and whole.
      array = np.asarray(array[index[count:]], np.float32)
      if not np.isfinite(array).all():
        raise Mistake(
          f"{name} has values that are not finite; its file is damaged or its training "
          "had diverged: fetch it again"
        )
      return array

    if not count:
      return of_layer(())
    shard = np.empty(sizes, np.float32)
    for place in itertools.product(*map(range, sizes[:count])):
      shard[place] = of_layer(
        [indices[i] for indices, i in zip(ranges, place, strict=False)]
      )
    return shard

  def units(self) -> list[tuple[set[str], list[str]]]:
    """Returns (our paths, tensor names) of the smallest groups that export apart.

    Usually one parameter and its per-layer tensors.
    """
    units = []
    for name, sources in self.sources.items():
      paths, names = {path for r, _ in sources for path in r.paths}, [name]
      for unit in [unit for unit in units if unit[0] & paths]:
        units.remove(unit)
        paths, names = unit[0] | paths, unit[1] + names
      units.append((paths, names))
    return units

  def shape_of(self, path: str) -> tuple[int, ...]:
    """Returns the shape of our parameter."""
    return self._shapes[path]

  def names_of(self, path: str) -> list[str]:
    """Returns the names of the tensors that our parameter is made of, one a layer."""
    r, _ = self._row_of[path]
    numbers = itertools.product(*map(range, self.stacked(r)))
    return [r.hf.format(*each) for each in numbers]

  def name_of(self, path: str) -> str:
    """Returns the name of the tensor that our parameter is made of."""
    return self._row_of[path][0].hf

  def back(self, name: str, params: dict[str, np.ndarray]) -> np.ndarray:
    """Returns a tensor in float32, from our parameters by path."""
    tensors = []
    for r, numbers in self.sources[name]:
      arrays = [params[path][numbers] for path in r.paths]
      tensors.append(r.reshape.back(arrays))
    if not all(np.array_equal(tensors[0], other) for other in tensors[1:]):
      raise Mistake(
        f"{name} was one tensor, tied, and is two now; write them apart, with --family"
      )
    return tensors[0]

  def check_derived(self, read):
    """Raises Mistake when a stored tensor is not what follows from the config."""
    for name, [(r, _), *_] in self.sources.items():
      # Half precision has at least three digits of numbers up to 1.
      if not r.paths and not np.allclose(
        np.asarray(read(name), np.float32), self.back(name, {}), atol=0.01
      ):
        raise Mistake(
          f"{name} has values of its own, and this family computes it; the folder is "
          "of another kind or damaged: fetch it again"
        )

  def check_constants(self, params: dict):
    """Raises Mistake when a parameter has values that no tensor can hold."""
    for path, (r, _) in self._row_of.items():
      if not r.hf and r.reshape.shape is None:
        [value] = r.reshape.into(None, [()])
        if np.any(np.asarray(params[path]) != value):
          raise Mistake(
            f"{path} cannot be written: this family has no such tensor, and ours is "
            f"not {value:g} everywhere; choose another --family"
          )
