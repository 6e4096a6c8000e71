"""Caches of keys and values, and the inputs that all layers of a decoder share."""

from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from lm.errors import Mistake
from lm.letters import constrain
from lm.nn.attention.masks import Mask, default_positions

LARGEST = 127  # of int8, and its negative


@struct.dataclass
class Int8:
  """Keys or values in int8, each vector H with the scale that its largest number has.

  A stack has L in front.
  """

  values_BSKH: jax.Array
  scales_BSK: jax.Array

  @classmethod
  def of(cls, x_BSKH) -> "Int8":
    """Returns the nearest to an array."""
    top_BSK = jnp.max(jnp.abs(x_BSKH.astype(jnp.float32)), axis=-1)
    units_BSKH = x_BSKH * (LARGEST / jnp.where(top_BSK == 0, 1, top_BSK))[..., None]
    return cls(jnp.round(units_BSKH).astype(jnp.int8), top_BSK / LARGEST)

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array that it stands for."""
    return self.values_BSKH.shape

  @property
  def dtype(self):
    """The dtype of its values."""
    return self.values_BSKH.dtype


def widened(x):
  """Returns keys or values as an array."""
  if not isinstance(x, Int8):
    return x
  return x.values_BSKH.astype(jnp.float32) * x.scales_BSK[..., None]


def constrained(x):
  """Returns keys or values, split over the mesh as their letters are."""
  return jax.tree.map(lambda leaf: constrain(leaf, "BSKH"[: leaf.ndim]), x)


def cast(x, dtype):
  """Returns keys or values in a dtype; those in int8 have scales."""
  if jax.tree.leaves(x)[0].dtype == dtype:
    return x
  is_int8 = jnp.dtype(dtype) == jnp.int8
  return Int8.of(widened(x)) if is_int8 else widened(x).astype(dtype)


@struct.dataclass
class KVCache:
  """Keys and values of the tokens so far, in columns filled one after the other.

  `keys` and `values` are LBSKH, or a tuple of L arrays BSKH when the model is not
  scanned (then a step writes in place), or an `Int8` of either. Each row has a place of
  its own, where its next token goes. Position -1 marks an empty column or padding.
  """

  rewinds: ClassVar[bool] = True  # `ended` takes tokens back that were read

  keys: Any
  values: Any
  positions_BS: jax.Array
  index_B: jax.Array  # the next column of each row

  @classmethod
  def empty(cls, L: int, shape_BSKH, *, scan: bool):
    """Returns a cache of zeros without a token, stacked over L when `scan` is set."""
    B, S = shape_BSKH[:2]
    if scan:
      zeros = lambda: jnp.zeros((L, *shape_BSKH), jnp.float32)
    else:
      zeros = lambda: tuple(jnp.zeros(shape_BSKH, jnp.float32) for _ in range(L))
    positions_BS = jnp.full((B, S), -1, jnp.int32)
    return cls(zeros(), zeros(), positions_BS, jnp.zeros(B, jnp.int32))

  def take(self, rows_B):
    """Returns the cache of the rows with these indices, for beams."""
    axis = self._rows_axis
    select = lambda x: jnp.take(x, rows_B, axis=axis)
    keys, values = jax.tree.map(select, (self.keys, self.values))
    positions_BS, index_B = self.positions_BS[rows_B], self.index_B[rows_B]
    return KVCache(keys, values, positions_BS, index_B)

  def put(self, row, one: "KVCache"):
    """Returns the cache with the only row of `one`, which may be shorter, as a row."""
    axis = self._rows_axis
    write = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, row, axis)
    old, new = (self.keys, self.values), (one.keys, one.values)
    keys, values = jax.tree.map(write, old, new)
    rest = self.positions_BS.shape[1] - one.positions_BS.shape[1]
    positions_1S = jnp.pad(one.positions_BS, ((0, 0), (0, rest)), constant_values=-1)
    positions_BS = self.positions_BS.at[row].set(positions_1S[0])
    index_B = self.index_B.at[row].set(one.index_B[0])
    return KVCache(keys, values, positions_BS, index_B)

  def columns(self, start, size: int):
    """Returns the part of a cache of one row that `size` of its columns are."""
    axis = self._rows_axis + 1
    cut = lambda x, axis: jax.lax.dynamic_slice_in_dim(x, start, size, axis)
    keys, values = jax.tree.map(lambda x: cut(x, axis), (self.keys, self.values))
    return KVCache(keys, values, cut(self.positions_BS, 1), self.index_B)

  def filled(self, part, start):
    """Returns the cache of one row with `part` as its columns from `start` on."""
    axis = self._rows_axis + 1
    write = lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, axis)
    old, new = (self.keys, self.values), (part.keys, part.values)
    keys, values = jax.tree.map(write, old, new)
    positions_BS = self.positions_BS.at[0].set(
      jax.lax.dynamic_update_slice(self.positions_BS[0], part.positions_BS[0], (start,))
    )
    return KVCache(keys, values, positions_BS, part.index_B)

  def ended(self, lengths_B):
    """Returns the cache whose rows end after so many columns; the rest are empty."""
    index_1S = jnp.arange(self.positions_BS.shape[1])[None]
    is_kept_BS = index_1S < lengths_B[:, None]
    positions_BS = jnp.where(is_kept_BS, self.positions_BS, -1)
    return self.replace(positions_BS=positions_BS, index_B=jnp.asarray(lengths_B))

  def as_dtype(self, dtype):
    """Returns the cache with keys and values in another dtype; int8 has scales."""
    keys, values = (_as_dtype(x, dtype) for x in (self.keys, self.values))
    return self.replace(keys=keys, values=values)

  def place(self, positions_BT):
    """Returns the cache with T new positions, and the columns where layers write."""
    positions_BS = write_columns(self.positions_BS, positions_BT, self.index_B)
    index_B = self.index_B + positions_BT.shape[1]
    return self.replace(positions_BS=positions_BS, index_B=index_B), self.index_B

  @property
  def _rows_axis(self) -> int:
    keys = self.keys.values_BSKH if isinstance(self.keys, Int8) else self.keys
    return 0 if isinstance(keys, tuple) else 1


def _as_dtype(x, dtype):
  """Returns keys or values of all layers, arrays so far, in a dtype."""
  if not isinstance(x, tuple):
    return cast(x, dtype)
  layers = [cast(each, dtype) for each in x]
  return jax.tree.map(lambda *leaves: leaves, *layers)


def write_columns(x, new, index_B):
  """Returns x with the columns `new` in each row, from a column of its own on.

  They are BS and BT with the same dimensions behind, or x is an `Int8`. Columns past
  the end move to the last ones, as in `jax.lax.dynamic_update_slice`.
  """
  write = jax.vmap(partial(jax.lax.dynamic_update_slice_in_dim, axis=0))
  new = cast(new, x.dtype)
  return jax.tree.map(lambda leaf, part: write(leaf, part, index_B), x, new)


@struct.dataclass
class SourceCache:
  """The cache of an encoder-decoder: the tokens so far, and the encoded source.

  Both are caches of all layers; the source's has size 0 until a source was read.
  """

  rewinds: ClassVar[bool] = True

  own: KVCache
  source: KVCache

  @classmethod
  def empty(cls, L: int, shape_BSKH, *, scan: bool):
    """Returns a cache without a token and without a source; see `KVCache.empty`."""
    B, _, K, H = shape_BSKH
    own = KVCache.empty(L, shape_BSKH, scan=scan)
    return cls(own, KVCache.empty(L, (B, 0, K, H), scan=scan))

  def take(self, rows_B):
    """Returns the cache of the rows with these indices, for beams."""
    return SourceCache(self.own.take(rows_B), self.source.take(rows_B))

  def put(self, row, one: "SourceCache"):
    """Returns the cache with the only row of `one` as a row; see `KVCache.put`."""
    return SourceCache(self.own.put(row, one.own), self.source.put(row, one.source))

  def as_dtype(self, dtype):
    """Returns the cache with keys and values in another dtype, a source's too."""
    return SourceCache(self.own.as_dtype(dtype), self.source.as_dtype(dtype))

  def ended(self, lengths_B):
    """Returns the cache whose rows end after so many of their own tokens."""
    return self.replace(own=self.own.ended(lengths_B))

  def written(self, own: KVCache, new: dict, source_BS, mask: Mask):
    """Returns the cache after a step: `own` and a source's, if one came with it.

    `new` has what the layers return of them, {"keys", "values"} under "own" and under
    "source"; `mask` hides the padding of the source.
    """
    cache = self.replace(own=own.replace(**new["own"]))
    if source_BS is None:
      return cache
    positions_BS = mask.k_positions_BS
    if positions_BS is None:
      positions_BS = jnp.broadcast_to(jnp.arange(source_BS.shape[1]), source_BS.shape)
    options = dict(positions_BS=positions_BS, index_B=jnp.zeros(len(source_BS), "i4"))
    source = KVCache(**new["source"], **options)
    dtype = jax.tree.leaves(own.keys)[0].dtype
    return cache.replace(source=source.as_dtype(dtype))


class Reading(NamedTuple):
  """The inputs that all layers share when a decoder reads tokens.

  The last three are None without a cache.
  """

  mask: Mask
  positions: jax.Array  # BT, or 1T when all rows have the same; -1 is padding
  cache: KVCache | None  # with the new positions in it
  kv: dict | None  # its {"keys", "values"}, to be replaced by what layers return
  slot: jax.Array | None  # B: the column where layers write a row's T keys and values


def begin(tokens_BT, positions_BT, segments_BT, cache: KVCache | None) -> Reading:
  """Returns the inputs that all layers share, for T more tokens.

  Positions are 0, 1, 2... by default, from 0 in every segment and from each row's
  place in the cache on. Raises Mistake for segments with a cache.
  """
  if segments_BT is not None and cache is not None:
    raise Mistake("segments_BT with a cache: decode one document a row instead")
  # Left at None, positions are the indices; in segments they differ from those by a
  # constant, which no mask sees and which lets kernels skip blocks.
  mask = Mask(positions_BT, positions_BT, segments_BT, segments_BT)
  positions = default_positions(tokens_BT, positions_BT, segments_BT)
  if cache is None:
    return Reading(mask, positions, None, None, None)
  if positions_BT is None:
    positions = cache.index_B[:, None] + positions
  cache, slot = cache.place(positions)
  mask = mask.replace(q_positions_BT=positions, k_positions_BS=cache.positions_BS)
  kv = {"keys": cache.keys, "values": cache.values}
  return Reading(mask, positions, cache, kv, slot)


def begin_source(source_BS, source_segments_BS, segments_BT, cache):
  """Returns (mask, kv) of the source that T more tokens read.

  Without source_BS it is the one in the SourceCache, whose keys and values `kv` has for
  all layers; else `kv` is None.
  """
  if source_BS is not None:
    return _mask_of_source(source_segments_BS, segments_BT), None
  mask = Mask(k_positions_BS=cache.source.positions_BS, causal=False)
  return mask, {"keys": cache.source.keys, "values": cache.source.values}


def _mask_of_source(source_segments_BS, segments_BT) -> Mask:
  """Returns the mask of a source: each token sees all of it but padding (segment 0).

  In a packed row, with `segments_BT`, those of the same segment.
  """
  mask, segments_BS = Mask(causal=False), source_segments_BS
  if segments_BS is None:
    return mask
  index_BS = jnp.broadcast_to(jnp.arange(segments_BS.shape[1]), segments_BS.shape)
  mask = mask.replace(k_positions_BS=jnp.where(segments_BS > 0, index_BS, -1))
  if segments_BT is not None:
    mask = mask.replace(q_segments_BT=segments_BT, k_segments_BS=segments_BS)
  return mask
