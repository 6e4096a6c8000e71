"""Gemma 2 and 3: most layers see a window, every so many-th sees everything.

Gemma 2: arXiv:2408.00118 (every second layer global, soft-caps). Gemma 3:
arXiv:2503.19786 (every sixth, QK-norm in place of soft-caps, slower rotary angles in
global layers). Norms before and after each sublayer, with scales kept as differences
from one; embeddings multiplied by sqrt(D).
What differs: the starting weights, as in the decoder. Which layers are global is data
of a scan, hence a branch at run time, and any number of layers works; unrolled, XLA
drops the branch. Local layers cache every key, although they need only a window.
"""

import math
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import constrain
from lm.models import Features, Traits
from lm.nn.attention import Attention, Cache, Heads, begin
from lm.nn.depth import Run, Stack
from lm.nn.layers import Embedding, FeedForward, Norm, dropout, mask_padding, softcap
from lm.nn.positions.rotary import Rope, rotary


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; the table is padded to a multiple of 128
  context: int = 8192  # the longest row: a limit
  width: int = 2304  # D
  layers: int = 26  # L
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


def _gemma(width, layers, heads, kv_heads, ff, window, **more):
  sizes = dict(width=width, layers=layers, heads=heads, kv_heads=kv_heads, ff=ff)
  return dict(sizes, head_size=256, window=window) | more


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


class Block(nn.Module):
  """Attention, then the feed-forward, each between two norms of its own."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, inputs, mask, angles, slot):
    c, kv, key, local = self.config, inputs["kv"], inputs["key"], inputs["local"]
    keys = (None, None) if key is None else jax.random.split(key)
    out = (2 * c.layers) ** -0.5
    kind = "rms_about_one"
    norm = lambda name: Norm(kind, c.eps, name=name)
    attention = Attention(
      c.attention, False, False, c.run.dtype, c.eps, out, kind, name="attention"
    )
    ff = FeedForward(c.ff, "geglu", False, c.run.dtype, out, name="ff")

    angles = jax.tree.map(lambda near, far: jnp.where(local, near, far), *angles)
    y_BTD = norm("attention_norm")(x_BTD)
    y_BTD, kv = attention(y_BTD, mask, angles, kv, slot, local)
    y_BTD = norm("attention_out_norm")(y_BTD)
    x_BTD = constrain(x_BTD + dropout(keys[0], y_BTD, c.run.dropout), "BTD")
    y_BTD = norm("ff_out_norm")(ff(norm("ff_norm")(x_BTD)))
    x_BTD = constrain(x_BTD + dropout(keys[1], y_BTD, c.run.dropout), "BTD")
    return x_BTD, kv


class Model(nn.Module):
  config: Config
  traits = Traits(decodes=True)

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.width)
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    self.norm = Norm("rms_about_one", c.eps)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32, and the cache that came in with these tokens added."""
    x_BTD, cache, _ = self.features(tokens_BT, **how)
    return self.readout(x_BTD)[..., : self.config.vocab], cache

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """x_BTD before the readout, and the cache.

    Positions default to 0, 1, 2..., from 0 in every segment; -1 is padding. A position
    past `config.context` is the caller's error and is not noticed here.
    """
    c = self.config
    mask, at, cache, kv, slot = begin(tokens_BT, positions_BT, segments_BT, cache)
    key = self.make_rng("dropout") if train and c.run.dropout else None
    first, keys_L = None, None
    if key is not None:
      first, rest = jax.random.split(key)
      keys_L = jax.random.split(rest, c.layers)

    x_BTD = self.embed(tokens_BT) * math.sqrt(c.width)
    x_BTD = dropout(first, x_BTD, c.run.dropout)
    H = c.attention.sizes(c.width)[2]
    near = replace(c.rope, theta=c.local_theta, scaling="none", factor=1.0)
    angles = rotary(at, H, near), rotary(at, H, c.rope)
    local_L = np.arange(1, c.layers + 1) % c.global_every != 0
    inputs = {"kv": kv, "key": keys_L, "local": local_L}
    x_BTD, kv = self.blocks(x_BTD, inputs, mask, angles, slot)
    if cache is not None:
      cache = cache.replace(**kv)
    return Features(self.norm(x_BTD), cache)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    logits_BTV = self.embed.readout(x_BTD, c.run.dtype)
    return mask_padding(softcap(logits_BTV, c.logit_softcap), c.vocab)

  def init_cache(self, batch: int, size: int) -> Cache:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    _, K, H = c.attention.sizes(c.width)
    return Cache.empty(c.layers, (batch, size, K, H), scan=c.run.scan)
