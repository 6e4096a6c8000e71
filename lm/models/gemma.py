"""Gemma 2 and 3: most layers see a window, every so many-th sees everything.

Gemma 2: arXiv:2408.00118 (every second layer global, soft-caps). Gemma 3:
arXiv:2503.19786 (every sixth, QK-norm in place of soft-caps, slower rotary angles in
global layers). Norms before and after each sublayer, with scales kept as differences
from one; embeddings multiplied by sqrt(D).
What differs: the initial weights, as in the decoder. Any number of layers works. Local
layers cache every key, although they need only a window.

Read first: nn/attention/__init__.py (Attention) and cache.py (KVCache, begin),
nn/layers.py (Norm, FeedForward, Embedding, Readout), nn/depth.py (Stack and its kinds
of layers).
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial

from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.models import Features, LanguageModel, Traits
from lm.nn.attention import Attention, Heads, KVCache, begin
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  Embedding,
  FeedForward,
  Norm,
  Readout,
  dropout,
  dropout_key,
  layer_keys,
  residual,
  split_key,
)
from lm.nn.positions.rotary import Rope, rotary

NORM = "rms_about_one"  # see lm.nn.layers.Norm


@dataclass(frozen=True)
class Config:
  """The sizes of a Gemma, and which layers see a window."""

  vocab: int  # tokens; the table is padded to a multiple of 128
  context: int = 8192  # the longest row: a limit
  width: int = 2304  # D
  layers: int = 26  # L: blocks
  ff: int = 9216  # F
  eps: float = 1e-6  # of the norms
  logit_softcap: float = 0.0  # 0 means none
  global_every: int = 2  # layers 2, 4, 6... counted from 1 see more than the window
  local_theta: float = 10_000.0  # base of the rotary angles of the others
  attention: Heads = field(default_factory=lambda: Heads(window=4096))
  rope: Rope = field(default_factory=Rope)  # of the global layers
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "context", "width", "layers", "ff", "global_every")
    positive(self, "eps", "local_theta")
    not_negative(self, "logit_softcap")
    self.rope.size(self.attention.sizes(self.width)[2])
    if self.attention.positions != "rotary":
      raise Mistake(f"positions={self.attention.positions!r}; gemma has rotary ones")
    if self.attention.window < 1:
      raise Mistake(f"window={self.attention.window}; local layers need 1 or more")


def _gemma(width, layers, heads, kv_heads, ff, window, **others):
  """The fields of a Gemma, with `others` in place of or beside them."""
  sizes = dict(width=width, layers=layers, heads=heads, kv_heads=kv_heads, ff=ff)
  return dict(sizes, head_size=256, window=window) | others


GEMMA_2 = dict(softcap=50.0, logit_softcap=30.0)
GEMMA_3 = dict(global_every=6, theta=1e6, qk_norm="head", context=32_768)
LONG = dict(context=131_072, scaling="linear", factor=8.0)

PRESETS = {
  "gemma-tiny": _gemma(
    192, 4, 2, 1, 512, 64, context=256, head_size=96, qk_norm="head"
  ),
  "gemma2-2b": _gemma(2304, 26, 8, 4, 9216, 4096, **GEMMA_2),
  "gemma2-9b": _gemma(3584, 42, 16, 8, 14_336, 4096, **GEMMA_2),
  "gemma3-270m": _gemma(640, 18, 4, 1, 2048, 512, **GEMMA_3),
  "gemma3-1b": _gemma(1152, 26, 4, 1, 6912, 512, **GEMMA_3),
  "gemma3-4b": _gemma(2560, 34, 8, 4, 10_240, 1024, **(GEMMA_3 | LONG)),
}


class Block(nn.Module, kw_only=True):
  """x += norm(attention(norm(x))); x += norm(ff(norm(x))), each norm its own."""

  config: Config
  window: int  # keys that this kind of layer sees; 0 means all

  @nn.compact
  def __call__(self, x_BTD, inputs, rows):
    """(x_BTD, kv); `inputs` has "kv" and "key"."""
    c, rate = self.config, self.config.run.dropout
    keys = split_key(inputs["key"], 2)
    options = dict(dtype=c.run.dtype, bias=False, scale=(2 * c.layers) ** -0.5)
    norm = partial(Norm, kind=NORM, eps=c.eps)
    attention = Attention(
      heads=replace(c.attention, window=self.window),
      out_bias=False,
      eps=c.eps,
      norm=NORM,
      **options,
      name="attention",
    )
    ff = FeedForward(size=c.ff, activation="geglu", **options, name="ff")
    angles = rows["local_angles" if self.window else "global_angles"]
    given = dict(mask=rows["mask"], angles=angles, slot=rows["slot"])

    y_BTD = norm(name="attention_norm")(x_BTD)
    y_BTD, kv = attention(y_BTD, kv=inputs["kv"], **given)
    y_BTD = norm(name="attention_out_norm")(y_BTD)
    x_BTD += dropout(keys[0], y_BTD, rate)
    x_BTD = residual(self, "attention", x_BTD)
    y_BTD = ff(norm(name="ff_norm")(x_BTD))
    y_BTD = norm(name="ff_out_norm")(y_BTD)
    x_BTD += dropout(keys[1], y_BTD, rate)
    return residual(self, "ff", x_BTD), kv


class Model(LanguageModel):
  """A Gemma 2 or 3 for text."""

  config: Config
  traits = Traits(decodes=True)

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width)
    local, everything = {"window": c.attention.window}, {"window": 0}
    kinds = (*[local] * (c.global_every - 1), everything)
    self.blocks = Stack(block=Block, config=c, length=c.layers, run=c.run, kinds=kinds)
    self.norm = Norm(kind=NORM, eps=c.eps)
    self.head = Readout(
      vocab=c.vocab, dtype=c.run.dtype, tied_to=self.embed, softcap=c.logit_softcap
    )

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """Features: x_BTD and the cache.

    Positions default to 0, 1, 2..., from 0 in every segment, or from where the cache
    stands; -1 is padding. Positions past `config.context` are not noticed here.
    """
    c, rate = self.config, self.config.run.dropout
    mask, positions, cache, kv, slot = begin(
      tokens_BT, positions_BT, segments_BT, cache
    )
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)

    x_BTD = self.embed(tokens_BT) * math.sqrt(c.width)
    x_BTD = dropout(first, x_BTD, rate)
    H = c.attention.sizes(c.width)[2]
    local_rope = replace(c.rope, theta=c.local_theta, scaling="none", factor=1.0)
    rows = {
      "mask": mask,
      "slot": slot,
      "local_angles": rotary(positions, H, local_rope),
      "global_angles": rotary(positions, H, c.rope),
    }
    x_BTD, kv = self.blocks(x_BTD, {"kv": kv, "key": keys_L}, rows)
    if cache is not None:
      cache = cache.replace(**kv)
    return Features(self.norm(x_BTD), cache)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    return self.head(x_BTD)

  def init_cache(self, batch: int, size: int) -> KVCache:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    _, K, H = c.attention.sizes(c.width)
    return KVCache.empty(c.layers, (batch, size, K, H), scan=c.run.scan)
