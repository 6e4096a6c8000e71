"""Encoders trained to find the tokens that another, smaller one made up: ELECTRA.

Clark et al. 2020, arXiv:2003.10555. The generator names hidden tokens; what it samples
stands in their places when the discriminator reads the row, and tells of every token
whether it was replaced. Both read the same tables of tokens, places and kinds and the
norm over them, of a width of their own. The discriminator is what is kept.
What differs: weights start from a normal with std 1/sqrt(fan in), embeddings from 0.02;
norms, softmax and the residual stream are float32 whatever `dtype` is; dropout is one
rate, and none falls on attention's probabilities.
In names here C is the width of the tables.
"""

import dataclasses
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import constrain, weight
from lm.models import READS, Features, Traits
from lm.nn.attention import Attention, Heads
from lm.nn.attention.masks import Mask, places
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  ACTIVATIONS,
  VOCAB_MULTIPLE,
  Embedding,
  FeedForward,
  Norm,
  dropout,
  mask_padding,
)
from lm.nn.linear import linear

ACTIVATION, EPS = "gelu", 1e-12  # of all that is published


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 512  # the longest row: a limit, and the size of learned positions
  table: int = 0  # C, the width of the tables; 0 means D
  width: int = 768  # D of the discriminator
  layers: int = 12  # L, of both
  heads: int = 12  # N of the discriminator
  ff: int = 0  # F of the discriminator; 0 means 4 D
  generator: float = 1 / 3  # the generator's D, N and F over the discriminator's
  types: int = 2  # kinds of segments, each with a vector of its own; 0 means none
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
  def C(self) -> int:
    return self.table or self.width

  @property
  def F(self) -> int:
    return self.ff or 4 * self.width

  @property
  def attention(self) -> Heads:
    return Heads(self.heads, positions="learned")

  def smaller(self) -> "Config":
    """The sizes of the generator in the places of the discriminator's."""
    share = lambda size: max(1, round(size * self.generator))
    sizes = dict(width=share(self.width), heads=share(self.heads), ff=share(self.F))
    return dataclasses.replace(self, table=self.C, generator=1.0, **sizes)


PRESETS = {
  "electra-small": dict(table=128, width=256, heads=4, generator=1 / 4),
  "electra-base": dict(width=768, heads=12, generator=1 / 3),
  "electra-large": dict(width=1024, heads=16, layers=24, generator=1 / 4),
}


class Block(nn.Module):
  """Attention, then the feed-forward, a norm behind each."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, key, mask):
    c = self.config
    keys = (None, None) if key is None else jax.random.split(key)
    attention = Attention(
      heads=c.attention,
      bias=True,
      out_bias=True,
      dtype=c.run.dtype,
      eps=EPS,
      scale=1.0,
      name="attention",
    )
    y_BTD, _ = attention(x_BTD, mask, None)
    x_BTD = constrain(x_BTD + dropout(keys[0], y_BTD, c.run.dropout), "BTD")
    x_BTD = Norm("layer", EPS, bias=True, name="attention_norm")(x_BTD)
    y_BTD = FeedForward(c.F, ACTIVATION, True, c.run.dtype, 1.0, name="ff")(x_BTD)
    x_BTD = constrain(x_BTD + dropout(keys[1], y_BTD, c.run.dropout), "BTD")
    return Norm("layer", EPS, bias=True, name="ff_norm")(x_BTD), None


class Encoder(nn.Module):
  """x_BTD of the embedded row: made as wide as the blocks, then the blocks."""

  config: Config

  @nn.compact
  def __call__(self, e_BTC, keys_L, mask):
    c = self.config
    if c.width == c.C:
      x_BTD = e_BTC
    else:
      shape, how = (c.C, c.width), dict(dtype=c.run.dtype, bias=True)
      x_BTD = linear(self, "project", "BTC,CD->BTD", e_BTC, shape, **how)
      x_BTD = constrain(x_BTD, "BTD")
    blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat, name="blocks")
    return blocks(x_BTD, keys_L, mask)[0]


class Head(nn.Module):
  """h_BTC for the readout against the tables: a layer, the activation, a norm."""

  size: int
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    shape, how = (x_BTD.shape[-1], self.size), dict(dtype=self.dtype, bias=True)
    h_BTC = linear(self, "dense", "BTD,DC->BTC", x_BTD, shape, **how)
    return Norm("layer", EPS, "C", bias=True, name="norm")(
      ACTIVATIONS[ACTIVATION](h_BTC)
    )


class Detector(nn.Module):
  """scores_BT: how much likelier it is that a token was replaced, in nats."""

  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    D, how = x_BTD.shape[-1], dict(dtype=self.dtype, bias=True)
    # The same width under another letter: an einsum cannot say D twice.
    h_BTF = linear(self, "dense", "BTD,DF->BTF", x_BTD, (D, D), **how)
    h_BTF = ACTIVATIONS[ACTIVATION](h_BTF)
    return linear(self, "out", "BTF,FC->BTC", h_BTF, (D, 1), **how)[..., 0]


class Model(nn.Module):
  config: Config
  traits = Traits(sees="both", reads=(*READS, "types_BT"))

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.C)
    self.places = Embedding(c.context, c.C, dim="T")
    if c.types:
      self.kinds = Embedding(c.types, c.C, dim="C")
    self.norm = Norm("layer", EPS, "C", bias=True)
    self.generator = Encoder(c.smaller())
    self.discriminator = Encoder(c)
    self.head = Head(c.C, c.run.dtype)
    rows = -(-c.vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    self.bias_V = weight(self, "bias", "V", (rows,), nn.initializers.zeros)
    self.detector = Detector(c.run.dtype)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32, the generator's, of the token in each place; and None."""
    if self.is_initializing():
      self.scores(self.judged(tokens_BT, **how).x_BTD)
    x_BTD, _, _ = self.features(tokens_BT, **how)
    return self.readout(x_BTD)[..., : self.config.vocab], None

  def features(self, tokens_BT, **how):
    """x_BTD of the generator before its readout, and None, as there is no cache.

    `types_BT` says which part of the row a token is in, 0 (by default) or 1. Positions
    default to 0, 1, 2..., from 0 in every segment; -1 is padding, which nobody sees.
    """
    return Features(self._encoded(self.generator, tokens_BT, **how))

  def judged(self, tokens_BT, **how):
    """x_BTD of the discriminator before `scores`, and None; else as `features`."""
    return Features(self._encoded(self.discriminator, tokens_BT, **how))

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.embed.readout(self.head(x_BTD), self.config.run.dtype)
    return mask_padding(logits_BTV + self.bias_V[None, None], self.config.vocab)

  def scores(self, x_BTD):
    """scores_BT of what `judged` gives: log odds that a token was replaced."""
    return self.detector(x_BTD)

  def _encoded(
    self,
    encoder,
    tokens_BT,
    *,
    types_BT=None,
    positions_BT=None,
    segments_BT=None,
    cache=None,
    train=False,
  ):
    c = self.config
    if cache is not None:
      raise Mistake("an encoder has no cache: every token sees those after it")
    if types_BT is not None and not c.types:
      raise Mistake("types_BT for a model without types; set types=2 or leave it out")
    mask = Mask(positions_BT, positions_BT, segments_BT, segments_BT).replace(
      causal=False
    )
    at = places(tokens_BT, positions_BT, segments_BT)
    first, keys_L = None, None
    if train and c.run.dropout:
      first, rest = jax.random.split(self.make_rng("dropout"))
      keys_L = jax.random.split(rest, c.layers)

    e_BTC = self.embed(tokens_BT) + self.places(jnp.maximum(at, 0))
    if c.types:
      e_BTC += self.kinds(jnp.zeros_like(tokens_BT) if types_BT is None else types_BT)
    return encoder(dropout(first, self.norm(e_BTC), c.run.dropout), keys_L, mask)
