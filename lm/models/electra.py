"""Replaced-token encoders: ELECTRA's generator and discriminator.

Clark et al. 2020, arXiv:2003.10555. The generator predicts masked tokens; samples of it
replace them in the row that the discriminator reads, which classifies every token as
original or replaced. Both share the embeddings of tokens, positions and types and the
norm over them, which have a width of their own. The discriminator is what is kept.
What differs: weights start from a normal with std 1/sqrt(fan in), embeddings from 0.02;
norms, softmax and the residual stream are float32 whatever `dtype` is; dropout is one
rate, and none falls on attention's probabilities.
In names here A is the width of the embeddings.

Read first: nn/attention/__init__.py (Attention), nn/attention/masks.py (Mask),
nn/layers.py (Norm, FeedForward, Embedding), nn/depth.py (Stack).
"""

import dataclasses
from dataclasses import dataclass, field

from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import constrain, weight
from lm.models import READS, Features, LanguageModel, Traits
from lm.nn.attention import Attention, Heads
from lm.nn.attention.masks import Mask, default_positions
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  ACTIVATIONS,
  Embedding,
  FeedForward,
  LearnedPositions,
  Norm,
  TokenTypes,
  dropout,
  dropout_key,
  layer_keys,
  mask_padding,
  padded,
  residual,
  split_key,
)
from lm.nn.linear import linear

ACTIVATION, EPS = "gelu", 1e-12  # of all published models


@dataclass(frozen=True)
class Config:
  """The sizes of the discriminator, and the generator's in proportion to them."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 512  # the longest row: a limit, and the size of learned positions
  table: int = 0  # A, the width of the embeddings; 0 means D
  width: int = 768  # D of the discriminator
  layers: int = 12  # L, of both
  heads: int = 12  # N of the discriminator
  ff: int = 0  # F of the discriminator; 0 means 4 D
  generator: float = 1 / 3  # the generator's D, N and F over the discriminator's
  types: int = 2  # parts of a row, each with a vector of its own; 0 means none
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "context", "width", "layers", "heads")
    not_negative(self, "table", "ff", "types")
    if not 0 < self.generator <= 1:
      raise Mistake(f"generator={self.generator:g}; wanted more than 0, at most 1")
    self.attention.sizes(self.width)
    if self.generator < 1:
      self.smaller()

  @property
  def A(self) -> int:
    """Width of the embeddings."""
    return self.table or self.width

  @property
  def F(self) -> int:
    """Features of the discriminator's feed-forward."""
    return self.ff or 4 * self.width

  @property
  def attention(self) -> Heads:
    """The shape of the discriminator's attention."""
    return Heads(self.heads, positions="learned")

  def smaller(self) -> "Config":
    """The config whose discriminator has the generator's sizes."""
    share = lambda size: max(1, round(size * self.generator))
    sizes = dict(width=share(self.width), heads=share(self.heads), ff=share(self.F))
    return dataclasses.replace(self, table=self.A, generator=1.0, **sizes)


PRESETS = {
  "electra-small": dict(table=128, width=256, heads=4, generator=1 / 4),
  "electra-base": dict(width=768, heads=12, generator=1 / 3),
  "electra-large": dict(width=1024, heads=16, layers=24, generator=1 / 4),
}


class Block(nn.Module):
  """x = norm(x + attention(x)); x = norm(x + ff(x)), as BERT."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, key, rows):
    """(x_BTD, None); `key` is the layer's key of dropout, or None."""
    c, rate = self.config, self.config.run.dropout
    keys = split_key(key, 2)
    options = dict(bias=True, dtype=c.run.dtype, scale=1.0)
    attention = Attention(
      heads=c.attention, out_bias=True, eps=EPS, **options, name="attention"
    )
    attention_norm = Norm(kind="layer", eps=EPS, bias=True, name="attention_norm")
    ff = FeedForward(size=c.F, activation=ACTIVATION, **options, name="ff")
    ff_norm = Norm(kind="layer", eps=EPS, bias=True, name="ff_norm")

    y_BTD, _ = attention(x_BTD, **rows)
    x_BTD += dropout(keys[0], y_BTD, rate)
    x_BTD = residual(self, "attention", attention_norm(x_BTD))
    x_BTD += dropout(keys[1], ff(x_BTD), rate)
    return residual(self, "ff", ff_norm(x_BTD)), None


class Encoder(nn.Module):
  """The blocks of one of the two, behind a projection of the row to their width."""

  config: Config

  @nn.compact
  def __call__(self, e_BTA, keys_L, mask):
    """x_BTD of an embedded row."""
    c = self.config
    if c.width == c.A:
      x_BTD = e_BTA
    else:
      shape, options = (c.A, c.width), dict(dtype=c.run.dtype, bias=True)
      x_BTD = linear(self, "project", "BTA,AD->BTD", e_BTA, shape, **options)
      x_BTD = constrain(x_BTD, "BTD")
    blocks = Stack(block=Block, config=c, length=c.layers, run=c.run, name="blocks")
    return blocks(x_BTD, keys_L, {"mask": mask, "angles": None})[0]


class TokenTransform(nn.Module, kw_only=True):
  """h_BTA for the readout against the embeddings: dense layer, activation, norm."""

  size: int  # A
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    shape, options = (x_BTD.shape[-1], self.size), dict(dtype=self.dtype, bias=True)
    h_BTA = linear(self, "dense", "BTD,DA->BTA", x_BTD, shape, **options)
    norm = Norm(kind="layer", eps=EPS, dim="A", bias=True, name="norm")
    return norm(ACTIVATIONS[ACTIVATION](h_BTA))


class Detector(nn.Module, kw_only=True):
  """scores_BT: log odds that a token was replaced."""

  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    D, options = x_BTD.shape[-1], dict(dtype=self.dtype, bias=True)
    # The output, as wide, has another letter: an einsum cannot have D twice.
    h_BTF = linear(self, "dense", "BTD,DF->BTF", x_BTD, (D, D), **options)
    h_BTF = ACTIVATIONS[ACTIVATION](h_BTF)
    return linear(self, "out", "BTF,FC->BTC", h_BTF, (D, 1), **options)[..., 0]


class Model(LanguageModel):
  """Generator and discriminator; as a language model it is the generator."""

  config: Config
  traits = Traits(sees="both", reads=(*READS, "types_BT"))

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.A)
    self.positions = LearnedPositions(size=c.context, width=c.A)
    if c.types:
      self.types = TokenTypes(size=c.types, width=c.A)
    self.norm = Norm(kind="layer", eps=EPS, dim="A", bias=True)
    self.generator = Encoder(c.smaller())
    self.discriminator = Encoder(c)
    self.head = TokenTransform(size=c.A, dtype=c.run.dtype)
    zeros = nn.initializers.zeros
    self.bias_V = weight(self, "bias", "V", (padded(c.vocab),), zeros)
    self.detector = Detector(dtype=c.run.dtype)

  def __call__(self, tokens_BT, **inputs):
    """(logits_BTV in float32 of the generator for the token in each place, None)."""
    if self.is_initializing():
      self.scores(self.judged(tokens_BT, **inputs).x_BTD)
    return super().__call__(tokens_BT, **inputs)

  def features(
    self,
    tokens_BT,
    *,
    types_BT=None,
    positions_BT=None,
    segments_BT=None,
    cache=None,
    train=False,
  ):
    """Features of the generator. An encoder reads whole rows: a cache is a Mistake.

    `types_BT` is the part of the row that a token is in, 0 (by default) or 1. Positions
    default to 0, 1, 2..., from 0 in every segment; -1 is padding, which nobody sees.
    """
    row = (tokens_BT, types_BT, positions_BT, segments_BT)
    return self._encode(self.generator, row, cache=cache, train=train)

  def judged(
    self,
    tokens_BT,
    *,
    types_BT=None,
    positions_BT=None,
    segments_BT=None,
    cache=None,
    train=False,
  ):
    """Features of the discriminator, for `scores`; arguments as of `features`."""
    row = (tokens_BT, types_BT, positions_BT, segments_BT)
    return self._encode(self.discriminator, row, cache=cache, train=train)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.embed.readout(self.head(x_BTD), self.config.run.dtype)
    return mask_padding(logits_BTV + self.bias_V[None, None], self.config.vocab)

  def scores(self, x_BTD):
    """scores_BT from the x_BTD of `judged`: log odds that a token was replaced."""
    return self.detector(x_BTD)

  def _encode(self, encoder, row, *, cache, train):
    """Features of one of the two encoders; they share the embeddings."""
    c, rate = self.config, self.config.run.dropout
    tokens_BT, types_BT, positions_BT, segments_BT = row
    if cache is not None:
      raise Mistake("an encoder has no cache: every token sees those after it")
    if types_BT is not None and not c.types:
      raise Mistake("types_BT for a model without types; set types=2 or leave it out")
    mask = Mask.both_ways(positions_BT, segments_BT)
    positions = default_positions(tokens_BT, positions_BT, segments_BT)
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)

    e_BTA = self.embed(tokens_BT) + self.positions(positions)
    if c.types:
      e_BTA += self.types(tokens_BT, types_BT)
    e_BTA = dropout(first, self.norm(e_BTA), rate)
    return Features(encoder(e_BTA, keys_L, mask))
