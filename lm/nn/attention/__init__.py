"""Attention: multi-head, grouped and multi-query, to itself or to a source.

How the scores become an output is a backend (`backends`), which queries see which keys
a mask (`masks`), and the keys and values of tokens already read a cache (`cache`).
"""

import math
from dataclasses import dataclass

from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.nn.attention import backends
from lm.nn.attention.backends import xla
from lm.nn.attention.cache import (
  KVCache,
  SourceCache,
  begin,
  begin_source,
  constrained,
  widened,
  write_columns,
)
from lm.nn.attention.masks import Mask
from lm.nn.layers import Norm
from lm.nn.linear import linear
from lm.nn.positions.rotary import POSITIONS, rotate

__all__ = ["Attention", "Heads", "KVCache", "SourceCache", "begin", "begin_source"]

QK_NORMS = ("none", "head", "width")  # width: over all heads together (OLMo 2)


@dataclass(frozen=True)
class Heads:
  """The shape of attention; see the families' presets for published values."""

  heads: int = 12  # N
  kv_heads: int = 0  # heads share these (arXiv:2305.13245); 0 means one each
  head_size: int = 0  # 0 means width / heads
  positions: str = "rotary"  # or "learned"
  window: int = 0  # keys each query sees (arXiv:2004.05150); 0 means all
  qkv_bias: bool = False  # of q, k and v where nothing else has one (Qwen 2)
  qk_norm: str = "none"  # RMSNorm of queries and keys (arXiv:2302.05442), see QK_NORMS
  score_size: int = 0  # scores are divided by its root; 0 means the head size
  softcap: float = 0.0  # of the attention logits; 0 means none (Gemma 2)
  backend: str = "auto"  # a file of lm/nn/attention/backends

  def __post_init__(self):
    positive(self, "heads")
    not_negative(self, "kv_heads", "head_size", "score_size", "softcap")
    not_negative(self, "window", zero="all keys")
    one_of("positions", self.positions, POSITIONS)
    one_of("qk_norm", self.qk_norm, QK_NORMS)
    one_of("attention backend", self.backend, ("auto", *backends.names()))

  def sizes(self, width: int) -> tuple[int, int, int]:
    """Returns N, K and H; raises Mistake when they do not fit together."""
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


class Attention(nn.Module, kw_only=True):
  """Attention (arXiv:1706.03762) of x_BTD to itself, or to a memory (`cross`)."""

  heads: Heads
  dtype: str  # of the operands
  scale: float  # of the initial weights into the residual stream
  q_scale: float = 1.0  # of the initial weights of queries
  bias: bool = False  # of q, k and v
  out_bias: bool = False
  norm: str = "rms"  # of queries and keys, if `heads.qk_norm` has one
  eps: float = 1e-6  # of that norm
  cross: bool = False  # keys and values are those of a memory

  @nn.compact
  def __call__(
    self,
    x_BTD,
    mask: Mask,
    *,
    angles=None,
    score_bias=None,
    memory_BSD=None,
    kv=None,
    slot=None,
  ):
    """Returns y_BTD and this layer's cache, {"keys": BSKH, "values": BSKH} or None.

    Args:
      x_BTD: the input, normalised.
      mask: which queries see which keys; its window is replaced by that of `heads`.
      angles: cos and sin of rotary positions.
      score_bias: added to the scores, BNTS or 1NTS.
      memory_BSD: for `cross`: the output of an encoder.
      kv: the layer's cache. Without `cross` the T new keys and values are written into
        it; with `cross` it stands for a memory that is not given.
      slot: the column of `kv` from which a row's keys and values are written, B.
    """
    D = x_BTD.shape[-1]
    N, K, H = self.heads.sizes(D)
    # Cast once: the cotangents of q, k and v are summed in this dtype.
    x_BTD = x_BTD.astype(self.dtype)
    q_BTNH = self._project("q", "BTD,DNH->BTNH", x_BTD, N, H)
    if self.heads.qk_norm != "none":
      q_BTNH = self._normed("q_norm", q_BTNH)
    if angles is not None:
      q_BTNH = rotate(q_BTNH, *angles)
    if not self.cross:
      new = self._keys_and_values(x_BTD, K, H, angles)
      k_BSKH, v_BSKH = _written(kv, slot, *new)
    elif memory_BSD is not None:
      k_BSKH, v_BSKH = self._keys_and_values(memory_BSD, K, H, None)
    else:
      k_BSKH, v_BSKH = kv["keys"], kv["values"]
    k_BSKH, v_BSKH = constrained(k_BSKH), constrained(v_BSKH)
    keep = kv is not None or self.cross
    kv = {"keys": k_BSKH, "values": v_BSKH} if keep else None
    mask = mask.replace(window=self.heads.window)
    options = dict(
      scale=1 / math.sqrt(self.heads.score_size or H),
      softcap=self.heads.softcap,
      dtype=self.dtype,
      bias=score_bias,
    )
    if self.is_mutable_collection("intermediates"):
      probs_BNTS = xla.probabilities(q_BTNH, widened(k_BSKH), mask, **options)
      self.sow("intermediates", "probs_BNTS", probs_BNTS)
    backend = self.heads.backend
    y_BTNH = backends.attend(backend, q_BTNH, k_BSKH, v_BSKH, mask, **options)
    y_BTNH = constrain(y_BTNH, "BTNH")
    shape, out = (N, H, D), dict(bias=self.out_bias, scale=self.scale)
    return linear(
      self, "o", "BTNH,NHD->BTD", y_BTNH, shape, dtype=self.dtype, **out
    ), kv

  def _project(self, name, equation, x, heads: int, H: int):
    options = dict(bias=self.bias or self.heads.qkv_bias, dtype=self.dtype)
    scale = self.q_scale if name == "q" else 1.0
    x = x.astype(self.dtype)
    shape = (x.shape[-1], heads, H)
    y = linear(self, name, equation, x, shape, scale=scale, **options)
    return constrain(y, equation.split("->")[1])

  def _keys_and_values(self, x_BTD, K: int, H: int, angles):
    """Returns k_BTKH and v_BTKH, split over positions like their input."""
    k_BTKH = self._project("k", "BTD,DKH->BTKH", x_BTD, K, H)
    v_BTKH = self._project("v", "BTD,DKH->BTKH", x_BTD, K, H)
    if self.heads.qk_norm != "none":
      k_BTKH = self._normed("k_norm", k_BTKH)
    if angles is not None:
      k_BTKH = rotate(k_BTKH, *angles)
    return k_BTKH, v_BTKH

  def _normed(self, name, x_BTNH):
    norm = Norm(kind=self.norm, eps=self.eps, dim="H", name=name)
    if self.heads.qk_norm == "head":
      return norm(x_BTNH)
    # The scale of all heads is one vector: rank 1, like any other norm's.
    return norm(x_BTNH.reshape(*x_BTNH.shape[:2], -1)).reshape(x_BTNH.shape)


def _written(kv, slot, k_BTKH, v_BTKH):
  """Returns keys and values BSKH: the cache's with T new ones, or these alone."""
  if kv is None:
    return k_BTKH, v_BTKH
  k_BSKH = write_columns(kv["keys"], k_BTKH, slot)
  return k_BSKH, write_columns(kv["values"], v_BTKH, slot)
