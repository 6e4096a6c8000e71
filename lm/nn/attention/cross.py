"""Attention with a bias of its scores, to the row itself or to another's features."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from lm.letters import constrain
from lm.nn.attention import Cache, backends
from lm.nn.attention.masks import Mask
from lm.nn.linear import linear


class MultiHead(nn.Module):
  """x_BTD attended to by itself, or (`cross`) attending to a memory; without biases.

  The bias of the scores (BNTS or 1NTS, not to be confused with the matmuls' missing
  ones) is whatever `lm.nn.positions.relative.Distances` says.
  """

  heads: int  # N
  size: int  # H
  divided: bool  # scores, by the root of H; T5 starts with small queries instead
  dtype: str
  scale: float  # of the way back into the residual stream
  cross: bool = False

  @nn.compact
  def __call__(
    self, x_BTD, mask: Mask, bias=None, *, memory_BSD=None, kv=None, slot=None
  ):
    """Returns y_BTD and one layer's keys and values, BSNH.

    Attending to itself, T keys and values are written into `kv`, the layer's cache,
    from `slot` on. Attending to a memory, `kv` is what an earlier call returned, and
    stands for a memory that is not given again.
    """
    D, H = x_BTD.shape[-1], self.size
    q_BTNH = self._project("q", x_BTD, 1.0 if self.divided else H**-0.5)
    if not self.cross:
      kv = self._written(kv, slot, self._keys_and_values(x_BTD))
    elif memory_BSD is not None:
      kv = self._keys_and_values(memory_BSD)
    k_BSNH, v_BSNH = (constrain(kv[name], "BSNH") for name in ("keys", "values"))
    options = dict(
      scale=1 / math.sqrt(H) if self.divided else 1.0,
      softcap=0.0,
      dtype=self.dtype,
      bias=bias,
    )
    if self.is_mutable_collection("intermediates"):
      probs_BNTS = backends.probabilities(q_BTNH, k_BSNH, mask, **options)
      self.sow("intermediates", "probs_BNTS", probs_BNTS)
    y_BTNH = backends.attend("auto", q_BTNH, k_BSNH, v_BSNH, mask, **options)
    y_BTNH = constrain(y_BTNH, "BTNH")
    shape = (self.heads, H, D)
    how = dict(dtype=self.dtype, scale=self.scale)
    return linear(self, "o", "BTNH,NHD->BTD", y_BTNH, shape, **how), kv

  def _project(self, name, x_BTD, scale=1.0):
    shape = (x_BTD.shape[-1], self.heads, self.size)
    how = dict(dtype=self.dtype, scale=scale)
    y_BTNH = linear(self, name, "BTD,DNH->BTNH", x_BTD.astype(self.dtype), shape, **how)
    return constrain(y_BTNH, "BTNH")

  def _keys_and_values(self, x_BSD):
    return {"keys": self._project("k", x_BSD), "values": self._project("v", x_BSD)}

  def _written(self, kv, slot, new):
    if kv is None:
      return new
    write = jax.lax.dynamic_update_slice
    return {name: write(kv[name], new[name], (0, slot, 0, 0)) for name in kv}


@struct.dataclass
class Memory:
  """What decoding needs: the tokens so far, and the source's keys and values.

  Both are caches of all layers; the source's is of size 0 until a source was read.
  """

  own: Cache
  source: Cache

  def take(self, rows_B):
    """The rows with these indices, for beams."""
    return Memory(self.own.take(rows_B), self.source.take(rows_B))

  def read(self, kv, source_BS, mask: Mask):
    """With the keys and values of a source, of which `mask` hides the padding."""
    places_BS = mask.k_positions_BS
    if places_BS is None:
      places_BS = jnp.broadcast_to(jnp.arange(source_BS.shape[1]), source_BS.shape)
    return self.replace(source=Cache(**kv, positions_BS=places_BS, index=jnp.int32(0)))


def source_mask_of(source_segments_BS, segments_BT):
  """Which tokens read which of the source: all but its padding, or their segment's."""
  mask, segments_BS = Mask(causal=False), source_segments_BS
  if segments_BS is None:
    return mask
  index_BS = jnp.broadcast_to(jnp.arange(segments_BS.shape[1]), segments_BS.shape)
  mask = mask.replace(k_positions_BS=jnp.where(segments_BS > 0, index_BS, -1))
  if segments_BT is not None:
    mask = mask.replace(q_segments_BT=segments_BT, k_segments_BS=segments_BS)
  return mask
