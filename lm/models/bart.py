"""Encoder-decoders of the BART kind, which summarise and translate.

BART: Lewis et al. 2019, arXiv:1910.13461; mBART: arXiv:2001.08210 and, for 50
languages, arXiv:2008.00401; Marian, as the OPUS-MT models are: arXiv:1804.00344;
Pegasus: arXiv:1912.08777; M2M-100: arXiv:2010.11125; NLLB: arXiv:2207.04672. What
differs: weights start from a normal with std 1/sqrt(fan in), those that write into a
residual stream without norms behind it divided by the root of how many do; norms,
softmax and the residual stream are float32 whatever `dtype` is; dropout is one rate, on
embeddings and on the output of every sublayer, and no layer is left out in training.

Read first: nn/attention/cache.py (SourceCache), nn/positions/sinusoidal.py,
nn/layers.py (Norm, FeedForward, Embedding, LearnedPositions), nn/depth.py (Stack).
"""

import math
from dataclasses import dataclass, field
from functools import partial

from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import weight
from lm.models import READS, SOURCE, Features, LanguageModel, Traits
from lm.nn.attention import Attention, Heads, SourceCache, begin, begin_source
from lm.nn.attention.masks import Mask, default_positions
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  ACTIVATIONS,
  Embedding,
  FeedForward,
  LearnedPositions,
  Norm,
  dropout,
  dropout_key,
  layer_keys,
  mask_padding,
  padded,
  residual,
  split_key,
)
from lm.nn.positions.sinusoidal import sinusoids, sinusoids_as_printed

EPS = 1e-5  # of the norms, in all released models
SINUSOIDS = {"sinusoids": sinusoids, "sinusoids_as_printed": sinusoids_as_printed}
POSITIONS = ("learned", *SINUSOIDS)


@dataclass(frozen=True)
class Style:
  """The differences of the published kinds; the defaults are BART's."""

  positions: str = "learned"  # see POSITIONS
  first_position: int = 2  # the row or angle of the first token
  post_norm: bool = True  # norms behind every residual sum; or in front, and at the end
  embedding_norm: bool = True  # of the embeddings
  scaled: bool = False  # embeddings are multiplied by sqrt(D), not the tied readout
  logits_bias: bool = True  # is added to the logits

  def __post_init__(self):
    one_of("positions", self.positions, POSITIONS)
    not_negative(self, "first_position")


@dataclass(frozen=True)
class Config:
  """The sizes of an encoder-decoder, and which of the published kinds it is."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 1024  # the longest source and target; size of learned positions
  width: int = 768  # D
  layers: int = 6  # L, of the decoder
  source_layers: int = 0  # of the encoder; 0 means as many
  heads: int = 12  # N
  ff: int = 0  # F; 0 means 4 D
  activation: str = "gelu"  # see lm.nn.layers.ACTIVATIONS
  style: Style = field(default_factory=Style)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    one_of("activation", self.activation, ACTIVATIONS)
    positive(self, "vocab", "context", "width", "layers", "heads")
    not_negative(self, "source_layers", "ff")
    if self.width % self.heads:
      raise Mistake(
        f"heads={self.heads} does not divide width={self.width}; give another number "
        "of heads"
      )
    if self.style.positions == "sinusoids" and self.width % 2:
      raise Mistake(
        f"width={self.width} with positions='sinusoids'; wanted an even width"
      )

  @property
  def source_L(self) -> int:
    """Layers of the encoder."""
    return self.source_layers or self.layers

  @property
  def H(self) -> int:
    """Head size."""
    return self.width // self.heads

  @property
  def F(self) -> int:
    """Features of the feed-forward."""
    return self.ff or 4 * self.width


def _large(layers=12, ff=4096, **rest):
  """The fields of a model of width 1024 with 16 heads."""
  return dict(width=1024, layers=layers, heads=16, ff=ff, **rest)


MBART = dict(post_norm=False, scaled=True)
MARIAN = dict(positions="sinusoids_as_printed", first_position=0, scaled=True)
MARIAN |= dict(embedding_norm=False, activation="silu", context=512)
PEGASUS = MARIAN | dict(post_norm=False, activation="relu", context=1024)
M2M100 = MBART | dict(positions="sinusoids", embedding_norm=False, logits_bias=False)
M2M100 |= dict(activation="relu")
PRESETS = {
  "bart-base": dict(width=768, layers=6, heads=12),
  "bart-large": _large(),
  "mbart-large-cc25": _large(**MBART),
  "mbart-large-50": _large(**MBART),
  "opus-mt": dict(width=512, layers=6, heads=8, **MARIAN),
  "pegasus-large": _large(16, **PEGASUS),
  "m2m100-418m": _large(**M2M100),
  "m2m100-1.2b": _large(24, 8192, **M2M100),
  "nllb-600m": _large(**M2M100),
  "nllb-1.3b": _large(24, 8192, **M2M100),
}


class Block(nn.Module, kw_only=True):
  """Sublayers f, each with a norm, added to the residual stream x.

    post_norm (BART, Marian)   x = norm(x + f(x))   for every f in turn
    otherwise                  x += f(norm(x))      for every f in turn

  f is attention and the feed-forward; in the decoder (`reads`) between these also
  "cross", attention to the encoder's output.
  """

  config: Config
  reads: bool  # a source

  @nn.compact
  def __call__(self, x_BTD, inputs, rows):
    """(x_BTD, caches of the layer: "own" and, of a new source, "source"; or None).

    `inputs` has "key", and in the decoder the caches; `rows` has "mask", in the decoder
    also "source_mask" and "memory_BSD", the encoder's output, which is None where the
    cache stands for it.
    """
    c, rate, new = self.config, self.config.run.dropout, {}
    names = ("attention", "cross", "ff") if self.reads else ("attention", "ff")
    count = len(names) * (c.layers if self.reads else c.source_L)
    scale = 1.0 if c.style.post_norm else count**-0.5
    options = dict(bias=True, dtype=c.run.dtype, scale=scale)
    heads = Heads(c.heads, positions="learned")
    attention = partial(Attention, heads=heads, out_bias=True, **options)

    def attend(x_BTD):
      given = dict(kv=inputs.get("own"), slot=rows.get("slot"))
      y_BTD, new["own"] = attention(name="attention")(x_BTD, rows["mask"], **given)
      return y_BTD

    def cross(x_BTD):
      given = dict(memory_BSD=rows["memory_BSD"], kv=inputs["source"])
      layer = attention(name="cross", cross=True)
      y_BTD, new["source"] = layer(x_BTD, rows["source_mask"], **given)
      return y_BTD

    ff = FeedForward(size=c.F, activation=c.activation, **options, name="ff")
    sublayers = {"attention": attend, "cross": cross, "ff": ff}
    for name, key in zip(names, split_key(inputs["key"], len(names)), strict=True):
      f = sublayers[name]
      norm = Norm(kind="layer", eps=EPS, bias=True, name=f"{name}_norm")
      if c.style.post_norm:
        x_BTD += dropout(key, f(x_BTD), rate)
        x_BTD = residual(self, name, norm(x_BTD))
      else:
        x_BTD += dropout(key, f(norm(x_BTD)), rate)
        x_BTD = residual(self, name, x_BTD)
    if rows.get("memory_BSD") is None:
      new.pop("source", None)  # unchanged
    return x_BTD, new if rows.get("slot") is not None else None


class Model(LanguageModel):
  """A BART, mBART, Marian, Pegasus, M2M-100 or NLLB; the readout is the embedding."""

  config: Config
  traits = Traits(decodes=True, source=True, reads=(*READS, *SOURCE))

  def setup(self):
    c, s = self.config, self.config.style
    std = c.width**-0.5 if s.scaled else 0.02
    self.embed = Embedding(size=c.vocab, width=c.width, std=std)
    if s.positions == "learned":
      first = s.first_position
      table = partial(
        LearnedPositions, size=first + c.context, width=c.width, first=first
      )
      self.source_positions, self.positions = table(), table()
    norm = partial(Norm, kind="layer", eps=EPS, bias=True)
    if s.embedding_norm:
      self.source_embed_norm, self.embed_norm = norm(), norm()
    stack, source = dict(block=Block, config=c, run=c.run), {"reads": False}
    self.source_blocks = Stack(length=c.source_L, kinds=(source,), **stack)
    self.blocks = Stack(length=c.layers, kinds=({"reads": True},), **stack)
    if not s.post_norm:
      self.source_norm, self.norm = norm(), norm()
    if s.logits_bias:
      zeros = nn.initializers.zeros
      self.bias_V = weight(self, "bias", "V", (padded(c.vocab),), zeros)

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
    memory_BSD = None
    if source_BS is not None:
      memory_BSD = self.encode(*source, keys[0])
    x_BTD = self._embed(tokens_BT, positions, keys[1])
    keys_L = None if keys[2] is None else split_key(keys[2], c.layers)
    inputs = {"own": kv, "source": source_kv, "key": keys_L}
    rows = dict(mask=mask, slot=slot, source_mask=source_mask, memory_BSD=memory_BSD)
    x_BTD, new = self.blocks(x_BTD, inputs, rows)
    if cache is not None:
      cache = cache.written(own, new, source_BS, source_mask)
    return Features(x_BTD if c.style.post_norm else self.norm(x_BTD), cache)

  def encode(self, source_BS, source_segments_BS=None, key=None):
    """memory_BSD: the encoder's output for a source, which the decoder attends to."""
    c, segments_BS = self.config, source_segments_BS
    first, keys_L = layer_keys(key, c.source_L)
    mask = Mask.both_ways(segments_BT=segments_BS)
    positions = default_positions(source_BS, None, segments_BS)
    x_BSD = self._embed(source_BS, positions, first, source=True)
    x_BSD, _ = self.source_blocks(x_BSD, {"key": keys_L}, dict(mask=mask))
    return x_BSD if c.style.post_norm else self.source_norm(x_BSD)

  def _embed(self, tokens_BT, positions, key, *, source=False):
    """x_BTD: embeddings of tokens plus those of positions, normalised or not."""
    c, s, x_BTD = self.config, self.config.style, self.embed(tokens_BT)
    if s.scaled:
      x_BTD *= math.sqrt(c.width)
    if s.positions == "learned":
      x_BTD += (self.source_positions if source else self.positions)(positions)
    else:
      x_BTD += SINUSOIDS[s.positions](positions + s.first_position, c.width)
    if s.embedding_norm:
      x_BTD = (self.source_embed_norm if source else self.embed_norm)(x_BTD)
    return dropout(key, x_BTD, c.run.dropout)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.embed.readout(x_BTD, self.config.run.dtype)
    if self.config.style.logits_bias:
      logits_BTV += self.bias_V[None, None]
    return mask_padding(logits_BTV, self.config.vocab)

  def init_cache(self, batch: int, size: int) -> SourceCache:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    shape_BSKH = (batch, size, c.heads, c.H)
    return SourceCache.empty(c.layers, shape_BSKH, scan=c.run.scan)
