"""Encoder-decoders: T5 and the Transformer of 2017.

T5: Raffel et al. 2019, arXiv:1910.10683; v1.1, with a gate and an untied softmax, as
released in the authors' repository (arXiv:2002.05202). The Transformer: Vaswani et al.
2017, arXiv:1706.03762. What differs: weights start from a normal with std 1/sqrt(fan
in), those that write into a residual stream without norms behind it divided by the root
of how many do; norms, softmax and the residual stream are float32 whatever `dtype` is;
dropout is one rate, on embeddings and on what every layer adds.
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.models import READS, SOURCE, Features, Traits
from lm.nn.attention import Cache, begin
from lm.nn.attention.cross import Memory, MultiHead, source_mask_of
from lm.nn.attention.masks import Mask, packed_positions
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  ACTIVATIONS,
  NORMS,
  Embedding,
  FeedForward,
  Norm,
  Readout,
  dropout,
  mask_padding,
)
from lm.nn.positions.relative import Distances, check_buckets
from lm.nn.positions.sinusoidal import sinusoids

POSITIONS = ("distances", "sinusoids")


@dataclass(frozen=True)
class Style:
  """What sets the Transformer of 2017 and T5 apart; as it stands, T5."""

  positions: str = "distances"  # in the scores; or "sinusoids", added at the start
  buckets: int = 32  # of distances
  reach: int = 128  # distances from here on are one
  norm: str = "rms"  # or "layer"
  eps: float = 1e-6  # of the norms
  post_norm: bool = False  # norms behind every residual sum, or in front
  bias: bool = False  # of norms and of the feed-forward
  divided: bool = False  # scores, by the root of the head size
  unit_table: bool = True  # sqrt(D) divides the tied readout; else it scales the input

  def __post_init__(self):
    one_of("positions", self.positions, POSITIONS)
    one_of("norm", self.norm, NORMS)
    positive(self, "eps")
    check_buckets(self.buckets, self.reach)


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest source and the longest target; 0 means no limit
  width: int = 512  # D
  layers: int = 6  # L, of the decoder
  source_layers: int = 0  # of the encoder; 0 means as many
  heads: int = 8  # N
  head_size: int = 0  # H; 0 means width / heads
  ff: int = 0  # F; 0 means 4 D
  activation: str = "relu"  # see lm.nn.layers.ACTIVATIONS
  tied: bool = True  # the readout is the embedding
  style: Style = field(default_factory=Style)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    one_of("activation", self.activation, ACTIVATIONS)
    positive(self, "vocab", "width", "layers", "heads")
    not_negative(self, "context", "source_layers", "head_size", "ff")
    if not self.head_size and self.width % self.heads:
      asked = f"heads={self.heads} does not divide width={self.width}"
      raise Mistake(f"{asked}; give head_size or another number of heads")

  @property
  def source_L(self) -> int:
    return self.source_layers or self.layers

  @property
  def H(self) -> int:
    return self.head_size or self.width // self.heads

  @property
  def F(self) -> int:
    return self.ff or 4 * self.width


def _t5(width, layers, heads, ff, **more):
  return dict(width=width, layers=layers, heads=heads, head_size=64, ff=ff, **more)


def _transformer(width, heads):
  norms = dict(norm="layer", post_norm=True, bias=True)
  scales = dict(divided=True, unit_table=False)
  return dict(width=width, heads=heads, positions="sinusoids", **norms, **scales)


V11 = dict(activation="geglu", tied=False)
PRESETS = {
  "t5-tiny": _t5(256, 4, 4, 1024),
  "t5-small": _t5(512, 6, 8, 2048),
  "t5-base": _t5(768, 12, 12, 3072),
  "t5-large": _t5(1024, 24, 16, 4096),
  "t5-v1.1-small": _t5(512, 8, 6, 1024, **V11),
  "t5-v1.1-base": _t5(768, 12, 12, 2048, **V11),
  "t5-v1.1-large": _t5(1024, 24, 16, 2816, **V11),
  "transformer-base": _transformer(512, 8),
  "transformer-big": _transformer(1024, 16),
}


def _norm(c, name):
  return Norm(c.style.norm, c.style.eps, bias=c.style.bias, name=name)


def _attention(c, name, out, *, cross=False):
  how = dict(dtype=c.run.dtype, scale=out, cross=cross)
  return MultiHead(c.heads, c.H, c.style.divided, **how, name=name)


def _add(c, x_BTD, norm, layer, key):
  """The residual stream with a layer added to it, normed in front of that or behind."""
  y_BTD = layer(x_BTD if c.style.post_norm else norm(x_BTD))
  x_BTD = constrain(x_BTD + dropout(key, y_BTD, c.run.dropout), "BTD")
  return norm(x_BTD) if c.style.post_norm else x_BTD


class SourceBlock(nn.Module):
  """Attention among the tokens of the source, then the feed-forward."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, key, mask, bias):
    c = self.config
    keys = (None, None) if key is None else jax.random.split(key)
    out = 1.0 if c.style.post_norm else (2 * c.source_L) ** -0.5
    attention = _attention(c, "attention", out)
    attend = lambda x_BTD: attention(x_BTD, mask, bias)[0]
    x_BTD = _add(c, x_BTD, _norm(c, "attention_norm"), attend, keys[0])
    ff = FeedForward(c.F, c.activation, c.style.bias, c.run.dtype, out, name="ff")
    return _add(c, x_BTD, _norm(c, "ff_norm"), ff, keys[1]), None


class Block(nn.Module):
  """Attention to the tokens so far, attention to the source, then the feed-forward."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, inputs, masks, bias, memory_BSD, slot):
    c, key, new = self.config, inputs["key"], {}
    keys = (None,) * 3 if key is None else jax.random.split(key, 3)
    out = 1.0 if c.style.post_norm else (3 * c.layers) ** -0.5
    attention = _attention(c, "attention", out)
    cross = _attention(c, "cross", out, cross=True)

    def attend(x_BTD):
      how = dict(kv=inputs["own"], slot=slot)
      y_BTD, new["own"] = attention(x_BTD, masks["own"], bias, **how)
      return y_BTD

    def read(x_BTD):
      how = dict(memory_BSD=memory_BSD, kv=inputs["source"])
      y_BTD, new["source"] = cross(x_BTD, masks["source"], **how)
      return y_BTD

    x_BTD = _add(c, x_BTD, _norm(c, "attention_norm"), attend, keys[0])
    x_BTD = _add(c, x_BTD, _norm(c, "cross_norm"), read, keys[1])
    ff = FeedForward(c.F, c.activation, c.style.bias, c.run.dtype, out, name="ff")
    x_BTD = _add(c, x_BTD, _norm(c, "ff_norm"), ff, keys[2])
    if memory_BSD is None:
      del new["source"]  # as it came in
    return x_BTD, None if slot is None else new


class Model(nn.Module):
  config: Config
  traits = Traits(decodes=True, source=True, reads=(*READS, *SOURCE))

  def setup(self):
    c, s = self.config, self.config.style
    std = 1.0 if s.unit_table else c.width**-0.5
    self.embed = Embedding(c.vocab, c.width, std=std)
    if s.positions == "distances":
      far = lambda both: Distances(c.heads, s.buckets, s.reach, both, c.width**-0.5)
      self.source_distances, self.distances = far(True), far(False)
    self.source_blocks = Stack(SourceBlock, c, c.source_L, c.run.scan, c.run.remat)
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    if not s.post_norm:
      self.source_norm = Norm(s.norm, s.eps, bias=s.bias)
      self.norm = Norm(s.norm, s.eps, bias=s.bias)
    if not c.tied:
      self.head = Readout(c.vocab, c.run.dtype)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32, and the cache that came in with these tokens added."""
    x_BTD, cache, _ = self.features(tokens_BT, **how)
    return self.readout(x_BTD)[..., : self.config.vocab], cache

  def features(
    self,
    tokens_BT,
    *,
    source_BS=None,
    source_segments_BS=None,
    positions_BT=None,
    segments_BT=None,
    cache=None,
    train=False,
  ):
    """x_BTD before the readout, and the cache.

    A source comes with the first tokens; the cache keeps what decoding needs of it.
    `source_segments_BS` is 0 where the source is padding; where segments_BT is given
    too, tokens read the source of their own segment. Other arguments are as in
    `lm.models.decoder`.
    """
    if source_BS is None and self.is_initializing():
      source_BS = tokens_BT
    if source_BS is None and (cache is None or not cache.source.positions_BS.size):
      raise Mistake("an encoder-decoder reads a source: give source_BS")
    c, own = self.config, cache and cache.own
    mask, at, own, kv, slot = begin(tokens_BT, positions_BT, segments_BT, own)
    keys = (None, None, None)
    if train and c.run.dropout:
      keys = jax.random.split(self.make_rng("dropout"), 3)
    memory_BSD, source_kv = None, None
    if source_BS is not None:
      memory_BSD = self.encode(source_BS, source_segments_BS, keys[0])
      source_mask = source_mask_of(source_segments_BS, segments_BT)
    else:
      source_kv = {"keys": cache.source.keys, "values": cache.source.values}
      source_mask = Mask(k_positions_BS=cache.source.positions_BS, causal=False)
    x_BTD, bias = self._start(tokens_BT, at, keys[1]), None
    if c.style.positions == "distances":
      # In a segment indices are as far apart as positions, and the same in all rows.
      near = jnp.arange(tokens_BT.shape[1])[None] if positions_BT is None else at
      q, k = (near, near) if own is None else (at, own.positions_BS)
      bias = self.distances(q, k)
    inputs = {"own": kv, "source": source_kv, "key": _split(keys[2], c.layers)}
    masks = {"own": mask, "source": source_mask}
    x_BTD, new = self.blocks(x_BTD, inputs, masks, bias, memory_BSD, slot)
    if cache is not None:
      cache = cache.replace(own=own.replace(**new["own"]))
      if memory_BSD is not None:
        cache = cache.read(new["source"], source_BS, source_mask)
    return Features(x_BTD if c.style.post_norm else self.norm(x_BTD), cache)

  def encode(self, source_BS, source_segments_BS=None, key=None):
    """memory_BSD, what the decoder reads of a source."""
    c, s = self.config, self.config.style
    first, rest = (None, None) if key is None else jax.random.split(key)
    segments_BS = source_segments_BS
    mask = Mask(None, None, segments_BS, segments_BS, causal=False)
    index, bias = jnp.arange(source_BS.shape[1])[None], None
    if s.positions == "distances":
      bias = self.source_distances(index, index)
    at = index if segments_BS is None else packed_positions(segments_BS)
    x_BSD = self._start(source_BS, at, first)
    x_BSD, _ = self.source_blocks(x_BSD, _split(rest, c.source_L), mask, bias)
    return x_BSD if s.post_norm else self.source_norm(x_BSD)

  def _start(self, tokens_BT, at, key):
    """The residual stream at its start."""
    c, x_BTD = self.config, self.embed(tokens_BT)
    if not c.style.unit_table:
      x_BTD *= math.sqrt(c.width)
    if c.style.positions == "sinusoids":
      x_BTD += sinusoids(at, c.width)
    return dropout(key, x_BTD, c.run.dropout)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    if not c.tied:
      return mask_padding(self.head(x_BTD), c.vocab)
    if c.style.unit_table:
      x_BTD *= c.width**-0.5
    return mask_padding(self.embed.readout(x_BTD, c.run.dtype), c.vocab)

  def init_cache(self, batch: int, size: int) -> Memory:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    empty = lambda size: Cache.empty(
      c.layers, (batch, size, c.heads, c.H), scan=c.run.scan
    )
    return Memory(empty(size), empty(0))


def _split(key, L: int):
  return None if key is None else jax.random.split(key, L)
