"""Attention: multi-head, grouped and multi-query, behind interchangeable backends."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.nn.attention import backends
from lm.nn.attention.masks import Mask, default_positions
from lm.nn.layers import Norm
from lm.nn.linear import linear
from lm.nn.positions.rotary import POSITIONS, rotate

QK_NORMS = ("none", "head", "width")  # width: over all heads together (OLMo 2)


@dataclass(frozen=True)
class Heads:
  """The shape of attention; see the families' presets for published values."""

  heads: int = 12
  kv_heads: int = 0  # heads share these (arXiv:2305.13245); 0 means one each
  head_size: int = 0  # 0 means width / heads
  positions: str = "rotary"  # or "learned"
  window: int = 0  # keys each query sees (arXiv:2004.05150); 0 means all
  qkv_bias: bool = False  # of q, k and v where nothing else has one (Qwen 2)
  qk_norm: str = "none"  # RMSNorm of queries and keys (arXiv:2302.05442), see QK_NORMS
  score_size: int = 0  # scores are divided by its root; 0 means the head size
  softcap: float = 0.0  # of the attention logits; 0 means none (Gemma 2)
  backend: str = "auto"  # see lm/nn/attention/backends/__init__.py

  def __post_init__(self):
    positive(self, "heads")
    not_negative(self, "kv_heads", "head_size", "score_size", "softcap")
    not_negative(self, "window", zero="all keys")
    one_of("positions", self.positions, POSITIONS)
    one_of("qk_norm", self.qk_norm, QK_NORMS)
    one_of("attention backend", self.backend, ("auto", *backends.BACKENDS))

  def sizes(self, width: int) -> tuple[int, int, int]:
    """N, K and H; Mistake when they do not fit together."""
    N, K = self.heads, self.kv_heads or self.heads
    if not self.head_size and width % N:
      near = [n for n in range(1, width + 1) if width % n == 0]
      near = sorted(sorted(near, key=lambda n: abs(n - N))[:4])
      raise Mistake(
        f"heads={N} does not divide width={width}; nearest that do: "
        f"{', '.join(map(str, near))}"
      )
    if N % K:
      raise Mistake(f"kv_heads={K} does not divide heads={N}")
    H = self.head_size or width // N
    if self.positions == "rotary" and H % 2:
      raise Mistake(f"rotary positions need an even head size, got {H}")
    return N, K, H


@struct.dataclass
class Cache:
  """Keys and values of the tokens so far, in slots filled one after the other.

  `keys` and `values` are LBSKH, or a tuple of L arrays BSKH when the model is not
  scanned (then a step writes in place). Position -1 marks an empty slot or padding.
  """

  keys: Any
  values: Any
  positions_BS: jax.Array
  index: jax.Array  # the next slot, the same for all rows

  @classmethod
  def empty(cls, L: int, shape_BSKH, *, scan: bool):
    B, S = shape_BSKH[:2]
    if scan:
      zeros = lambda: jnp.zeros((L, *shape_BSKH), jnp.float32)
    else:
      zeros = lambda: tuple(jnp.zeros(shape_BSKH, jnp.float32) for _ in range(L))
    return cls(zeros(), zeros(), jnp.full((B, S), -1, jnp.int32), jnp.int32(0))

  def take(self, rows_B):
    """The rows with these indices, for beams."""
    axis = 0 if isinstance(self.keys, tuple) else 1
    some = lambda x: jnp.take(x, rows_B, axis=axis)
    keys, values = jax.tree.map(some, (self.keys, self.values))
    return Cache(keys, values, jnp.take(self.positions_BS, rows_B, axis=0), self.index)

  def place(self, positions_BT):
    """The cache with T new positions in it, and the slot where layers write theirs."""
    at = (0, self.index)
    positions_BS = jax.lax.dynamic_update_slice(self.positions_BS, positions_BT, at)
    T = positions_BT.shape[1]
    return self.replace(positions_BS=positions_BS, index=self.index + T), self.index


def begin(tokens_BT, positions_BT, segments_BT, cache: Cache | None):
  """What the layers of a decoder share: (mask, at, cache, kv, slot).

  `at` are positions BT, or 1T when all rows have the same: 0, 1, 2... by default, from
  0 in every segment; -1 is padding. The cache comes back with them in it; `kv` are its
  keys and values, for every layer to write into from `slot` on.
  """
  if segments_BT is not None and cache is not None:
    raise Mistake("segments_BT with a cache: decode one document a row instead")
  # Left at None, positions are the indices; in segments they differ from those by a
  # constant, which no mask sees and which lets kernels skip blocks.
  mask = Mask(positions_BT, positions_BT, segments_BT, segments_BT)
  at = default_positions(tokens_BT, positions_BT, segments_BT)
  if cache is None:
    return mask, at, None, None, None
  if positions_BT is None:
    at = jnp.broadcast_to(cache.index + at, tokens_BT.shape)
  cache, slot = cache.place(at)
  mask = mask.replace(q_positions_BT=at, k_positions_BS=cache.positions_BS)
  return mask, at, cache, {"keys": cache.keys, "values": cache.values}, slot


class Attention(nn.Module):
  """x_BTD attended to by itself (and, decoding, by the cached keys and values)."""

  heads: Heads
  bias: bool
  out_bias: bool
  dtype: str
  eps: float
  scale: float  # of the way back into the residual stream
  norm: str = "rms"  # of queries and keys, where they have one

  @nn.compact
  def __call__(self, x_BTD, mask: Mask, angles, kv=None, slot=None, local=True):
    """Returns x_BTD and one layer's cache, {"keys": BSKH, "values": BSKH} or None.

    `angles` are cos and sin of rotary positions, or None. This call writes its T keys
    and values into `kv`, the layer's cache, from `slot` on. The window of `heads` holds
    where `local` does, which may differ by layer and be traced.
    """
    D = x_BTD.shape[-1]
    N, K, H = self.heads.sizes(D)
    x_BTD = x_BTD.astype(self.dtype)
    bias = self.bias or self.heads.qkv_bias
    project = lambda name, equation, n: linear(
      self, name, equation, x_BTD, (D, n, H), dtype=self.dtype, bias=bias
    )
    q_BTNH = constrain(project("q", "BTD,DNH->BTNH", N), "BTNH")
    k_BTKH = constrain(project("k", "BTD,DKH->BTKH", K), "BTKH")
    v_BTKH = constrain(project("v", "BTD,DKH->BTKH", K), "BTKH")
    if self.heads.qk_norm != "none":
      q_BTNH, k_BTKH = self._normed("q_norm", q_BTNH), self._normed("k_norm", k_BTKH)
    if angles is not None:
      q_BTNH, k_BTKH = rotate(q_BTNH, *angles), rotate(k_BTKH, *angles)
    if kv is None:
      k_BSKH, v_BSKH = k_BTKH, v_BTKH
    else:
      at = (0, slot, 0, 0)
      k_BSKH = jax.lax.dynamic_update_slice(kv["keys"], k_BTKH, at)
      v_BSKH = jax.lax.dynamic_update_slice(kv["values"], v_BTKH, at)
    k_BSKH, v_BSKH = constrain(k_BSKH, "BSKH"), constrain(v_BSKH, "BSKH")
    kv = kv and {"keys": k_BSKH, "values": v_BSKH}
    options, near = self._options(H), mask.replace(window=self.heads.window)

    def either(function):
      """By a branch, so that every backend has a window that it knows beforehand."""
      if local is True:
        return function(near)
      return jax.lax.cond(local, lambda: function(near), lambda: function(mask))

    if self.is_mutable_collection("intermediates"):
      look = lambda mask: backends.probabilities(q_BTNH, k_BSKH, mask, **options)
      self.sow("intermediates", "probs_BNTS", either(look))
    attend = lambda mask: backends.attend(
      self.heads.backend, q_BTNH, k_BSKH, v_BSKH, mask, **options
    )
    y_BTNH = constrain(either(attend), "BTNH")
    y_BTD = linear(
      self,
      "o",
      "BTNH,NHD->BTD",
      y_BTNH,
      (N, H, D),
      dtype=self.dtype,
      bias=self.out_bias,
      scale=self.scale,
    )
    return y_BTD, kv

  def _normed(self, name, x_BTNH):
    norm = Norm(kind=self.norm, eps=self.eps, dim="H", name=name)
    if self.heads.qk_norm == "head":
      return norm(x_BTNH)
    # The scale of all heads is one vector: rank 1, like any other norm's.
    return norm(x_BTNH.reshape(*x_BTNH.shape[:2], -1)).reshape(x_BTNH.shape)

  def _options(self, H):
    scale = 1 / math.sqrt(self.heads.score_size or H)
    return dict(scale=scale, softcap=self.heads.softcap, dtype=self.dtype)
