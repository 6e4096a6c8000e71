"""Encoder-decoders: T5 and the Transformer of 2017.

T5: Raffel et al. 2019, arXiv:1910.10683; v1.1, with a gate and an untied softmax, as
released in the authors' repository (arXiv:2002.05202). The Transformer: Vaswani et al.
2017, arXiv:1706.03762. What differs: weights start from a normal with std 1/sqrt(fan
in), those that write into a residual stream without norms behind it divided by the root
of how many do; norms, softmax and the residual stream are float32 whatever `dtype` is;
dropout is one rate, on embeddings and on the output of every sublayer.

Read first: nn/attention/cache.py (SourceCache), nn/positions/relative.py,
nn/layers.py (Norm, FeedForward, Embedding, Readout), nn/depth.py (Stack).
"""

import math
from dataclasses import dataclass, field
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.models import READS, SOURCE, Features, LanguageModel, Traits
from lm.nn.attention import Attention, Heads, SourceCache, begin, begin_source
from lm.nn.attention.masks import Mask, default_positions
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  ACTIVATIONS,
  NORMS,
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
from lm.nn.positions.relative import Distances, check_buckets
from lm.nn.positions.sinusoidal import sinusoids

POSITIONS = ("distances", "sinusoids")


@dataclass(frozen=True)
class Style:
  """The differences of the Transformer of 2017 and T5; the defaults are T5's."""

  positions: str = "distances"  # in the scores; or "sinusoids", in the embeddings
  buckets: int = 32  # of distances
  reach: int = 128  # all distances from here on are in the last bucket
  norm: str = "rms"  # or "layer"
  eps: float = 1e-6  # of the norms
  post_norm: bool = False  # norms behind every residual sum, or in front
  bias: bool = False  # of norms and of the feed-forward
  divided: bool = False  # scores are divided by the root of the head size
  unit_table: bool = True  # sqrt(D) divides the tied readout; else it scales the input

  def __post_init__(self):
    one_of("positions", self.positions, POSITIONS)
    one_of("norm", self.norm, NORMS)
    positive(self, "eps")
    check_buckets(self.buckets, self.reach)


@dataclass(frozen=True)
class Config:
  """The sizes of an encoder-decoder, and which of the published kinds it is."""

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
      raise Mistake(
        f"heads={self.heads} does not divide width={self.width}; give head_size or "
        "another number of heads"
      )

  @property
  def source_L(self) -> int:
    """Layers of the encoder."""
    return self.source_layers or self.layers

  @property
  def H(self) -> int:
    """Head size."""
    return self.head_size or self.width // self.heads

  @property
  def F(self) -> int:
    """Features of the feed-forward."""
    return self.ff or 4 * self.width


def _t5(width, layers, heads, ff, **rest):
  """The fields of a T5, whose heads have size 64."""
  return dict(width=width, layers=layers, heads=heads, head_size=64, ff=ff, **rest)


def _transformer(width, heads):
  """The fields of a Transformer of 2017."""
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


class Block(nn.Module, kw_only=True):
  """Sublayers f, each with a norm, added to the residual stream x.

    post_norm (2017)   x = norm(x + f(x))   for every f in turn
    otherwise (T5)     x += f(norm(x))      for every f in turn

  f is attention and the feed-forward; in the decoder (`reads`) between these also
  "cross", attention to the encoder's output.
  """

  config: Config
  reads: bool  # a source

  @nn.compact
  def __call__(self, x_BTD, inputs, rows):
    """(x_BTD, caches of the layer: "own" and, of a new source, "source"; or None).

    `inputs` has "key", and in the decoder the caches; `rows` has "mask" and "bias", in
    the decoder also "source_mask" and "memory_BSD", the encoder's output, which is None
    where the cache stands for it.
    """
    c, new = self.config, {}
    names = ("attention", "cross", "ff") if self.reads else ("attention", "ff")
    count = len(names) * (c.layers if self.reads else c.source_L)
    options = dict(dtype=c.run.dtype, scale=1.0 if c.style.post_norm else count**-0.5)
    # T5 starts with small queries in place of dividing the scores.
    score_size, q_scale = (c.H, 1.0) if c.style.divided else (1, c.H**-0.5)
    heads = Heads(c.heads, head_size=c.H, score_size=score_size, positions="learned")
    attention = partial(Attention, heads=heads, q_scale=q_scale, **options)

    def attend(x_BTD):
      given = dict(kv=inputs.get("own"), slot=rows.get("slot"))
      layer = partial(attention(name="attention"), score_bias=rows["bias"])
      y_BTD, new["own"] = layer(x_BTD, rows["mask"], **given)
      return y_BTD

    def cross(x_BTD):
      given = dict(memory_BSD=rows["memory_BSD"], kv=inputs["source"])
      layer = partial(attention(name="cross", cross=True), mask=rows["source_mask"])
      y_BTD, new["source"] = layer(x_BTD, **given)
      return y_BTD

    ff = partial(FeedForward, size=c.F, activation=c.activation, bias=c.style.bias)
    ff = ff(**options, name="ff")
    sublayers = {"attention": attend, "cross": cross, "ff": ff}
    for name, key in zip(names, split_key(inputs["key"], len(names)), strict=True):
      f, options = sublayers[name], dict(kind=c.style.norm, eps=c.style.eps)
      norm = Norm(bias=c.style.bias, name=f"{name}_norm", **options)
      if c.style.post_norm:
        x_BTD += dropout(key, f(x_BTD), c.run.dropout)
        x_BTD = residual(self, name, norm(x_BTD))
      else:
        x_BTD += dropout(key, f(norm(x_BTD)), c.run.dropout)
        x_BTD = residual(self, name, x_BTD)
    if rows.get("memory_BSD") is None:
      new.pop("source", None)  # unchanged
    return x_BTD, new if rows.get("slot") is not None else None


class Model(LanguageModel):
  """A Transformer of 2017 or a T5."""

  config: Config
  traits = Traits(decodes=True, source=True, reads=(*READS, *SOURCE))

  def setup(self):
    c, s = self.config, self.config.style
    std = 1.0 if s.unit_table else c.width**-0.5
    self.embed = Embedding(size=c.vocab, width=c.width, std=std)
    if s.positions == "distances":
      sizes = dict(heads=c.heads, count=s.buckets, reach=s.reach, std=c.width**-0.5)
      self.source_distances = Distances(**sizes, both_ways=True)
      self.distances = Distances(**sizes, both_ways=False)
    stack, source = dict(block=Block, config=c, run=c.run), {"reads": False}
    self.source_blocks = Stack(length=c.source_L, kinds=(source,), **stack)
    self.blocks = Stack(length=c.layers, kinds=({"reads": True},), **stack)
    if not s.post_norm:
      self.source_norm = Norm(kind=s.norm, eps=s.eps, bias=s.bias)
      self.norm = Norm(kind=s.norm, eps=s.eps, bias=s.bias)
    tied_to = self.embed if c.tied else None
    self.head = Readout(vocab=c.vocab, dtype=c.run.dtype, tied_to=tied_to)

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
    """Features: x_BTD and the cache.

    A source comes with the first tokens; the cache keeps what decoding needs of it.
    `source_segments_BS` is 0 where the source is padding; where segments_BT is given
    too, tokens read the source of their own segment. Other arguments are as in
    `lm.models.decoder`. Raises Mistake without a source.
    """
    is_cached = cache is not None and cache.source.positions_BS.size > 0
    source_BS = self.source_to_read(source_BS, tokens_BT, is_cached=is_cached)
    c, own = self.config, cache and cache.own
    mask, positions, own, kv, slot = begin(tokens_BT, positions_BT, segments_BT, own)
    keys = split_key(dropout_key(self, c.run.dropout, train=train), 3)
    source = (source_BS, source_segments_BS)
    source_mask, source_kv = begin_source(*source, segments_BT, cache)
    memory_BSD, bias = None, None
    if source_BS is not None:
      memory_BSD = self.encode(*source, keys[0])
    x_BTD = self._embed(tokens_BT, positions, keys[1])
    if c.style.positions == "distances":
      # In a segment indices are as far apart as positions, and the same in all rows.
      index = default_positions(tokens_BT, positions_BT, None)
      q, k = (index, index) if own is None else (positions, own.positions_BS)
      bias = self.distances(q, k)
    keys_L = None if keys[2] is None else split_key(keys[2], c.layers)
    inputs = {"own": kv, "source": source_kv, "key": keys_L}
    rows = dict(mask=mask, slot=slot, source_mask=source_mask, memory_BSD=memory_BSD)
    x_BTD, new = self.blocks(x_BTD, inputs, rows | {"bias": bias})
    if cache is not None:
      cache = cache.written(own, new, source_BS, source_mask)
    return Features(x_BTD if c.style.post_norm else self.norm(x_BTD), cache)

  def encode(self, source_BS, source_segments_BS=None, key=None):
    """memory_BSD: the encoder's output for a source, which the decoder attends to."""
    c, s, segments_BS = self.config, self.config.style, source_segments_BS
    first, keys_L = layer_keys(key, c.source_L)
    mask = Mask.both_ways(segments_BT=segments_BS)
    index, bias = jnp.arange(source_BS.shape[1])[None], None
    if s.positions == "distances":
      bias = self.source_distances(index, index)
    positions = default_positions(source_BS, None, segments_BS)
    x_BSD = self._embed(source_BS, positions, first)
    x_BSD, _ = self.source_blocks(x_BSD, {"key": keys_L}, dict(mask=mask, bias=bias))
    return x_BSD if s.post_norm else self.source_norm(x_BSD)

  def _embed(self, tokens_BT, positions, key):
    """x_BTD: embeddings of tokens, and of positions where those are sinusoids."""
    c, x_BTD = self.config, self.embed(tokens_BT)
    if not c.style.unit_table:
      x_BTD *= math.sqrt(c.width)
    if c.style.positions == "sinusoids":
      x_BTD += sinusoids(positions, c.width)
    return dropout(key, x_BTD, c.run.dropout)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    if self.config.tied and self.config.style.unit_table:
      x_BTD *= self.config.width**-0.5
    return self.head(x_BTD)

  def init_cache(self, batch: int, size: int) -> SourceCache:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    shape_BSKH = (batch, size, c.heads, c.H)
    return SourceCache.empty(c.layers, shape_BSKH, scan=c.run.scan)
