"""Encoders that read both ways: the BERT kind, with one of several heads or none.

BERT: Devlin et al. 2018, arXiv:1810.04805; its small sizes: arXiv:1908.08962. Norms in
front of the blocks instead (`post_norm=False`): arXiv:2002.04745; rotary positions in
place of learned ones, as ModernBERT: arXiv:2412.13663. A classifier with a layer of its
own: RoBERTa, arXiv:1907.11692; DistilBERT, arXiv:1910.01108. What differs: weights
start from a normal with std 1/sqrt(fan in), embeddings from 0.02; norms, softmax and
the residual stream are float32 whatever `dtype` is; dropout is one rate, and none falls
on attention's probabilities, nor in a head.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
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
from lm.nn.positions.rotary import Rope, rotary
from lm.nn.task_heads import HIDDEN, PARTS, Dense, Hidden, Says


@dataclass(frozen=True)
class Inputs:
  """What is added to the embeddings of the tokens."""

  types: int = 2  # kinds of segments, each with a vector of its own; 0 means none
  first_place: int = 0  # the row of learned positions for the first token (RoBERTa: 2)

  def __post_init__(self):
    not_negative(self, "types", "first_place", zero="none")


@dataclass(frozen=True)
class Residual:
  """How attention and the feed-forward join the residual stream."""

  eps: float = 1e-12  # of the norms
  post_norm: bool = True  # norms behind every residual sum, as BERT; or in front

  def __post_init__(self):
    positive(self, "eps")


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 512  # the longest row: a limit, and the size of learned positions
  width: int = 768  # D
  layers: int = 12  # L
  ff: int = 0  # F; 0 means 4 D
  activation: str = "gelu"  # see lm.nn.layers.ACTIVATIONS
  inputs: Inputs = field(default_factory=Inputs)
  says: Says = field(default_factory=Says)
  attention: Heads = field(default_factory=lambda: Heads(positions="learned"))
  rope: Rope = field(default_factory=Rope)
  residual: Residual = field(default_factory=Residual)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "context", "width", "layers")
    not_negative(self, "ff")
    H = self.attention.sizes(self.width)[2]
    if self.attention.positions == "rotary":
      self.rope.size(H)
      if self.inputs.first_place:
        raise Mistake("first_place is for positions='learned'; leave it out")
    one_of("activation", self.activation, ACTIVATIONS)

  @property
  def F(self) -> int:
    return self.ff or 4 * self.width


def _bert(width, layers):
  return dict(width=width, layers=layers, heads=width // 64)


PRESETS = {
  "bert-tiny": _bert(128, 2),
  "bert-mini": _bert(256, 4),
  "bert-small": _bert(512, 4),
  "bert-base": _bert(768, 12),
  "bert-large": _bert(1024, 24),
}


class Block(nn.Module):
  """Attention, then the feed-forward; norms behind or in front of each."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, key, mask, angles):
    c = self.config
    post_norm, eps = c.residual.post_norm, c.residual.eps
    keys = (None, None) if key is None else jax.random.split(key)
    out = 1.0 if post_norm else (2 * c.layers) ** -0.5
    attention_norm = Norm("layer", eps, bias=True, name="attention_norm")
    ff_norm = Norm("layer", eps, bias=True, name="ff_norm")
    attention = Attention(
      heads=c.attention,
      bias=True,
      out_bias=True,
      dtype=c.run.dtype,
      eps=eps,
      scale=out,
      name="attention",
    )
    ff = FeedForward(c.F, c.activation, True, c.run.dtype, out, name="ff")

    y_BTD, _ = attention(x_BTD if post_norm else attention_norm(x_BTD), mask, angles)
    x_BTD = constrain(x_BTD + dropout(keys[0], y_BTD, c.run.dropout), "BTD")
    x_BTD = attention_norm(x_BTD) if post_norm else x_BTD
    y_BTD = ff(x_BTD if post_norm else ff_norm(x_BTD))
    x_BTD = constrain(x_BTD + dropout(keys[1], y_BTD, c.run.dropout), "BTD")
    return ff_norm(x_BTD) if post_norm else x_BTD, None


class Model(nn.Module):
  config: Config
  traits = Traits(sees="both", reads=(*READS, "types_BT"), head=PARTS)

  def setup(self):
    c, says = self.config, self.config.says
    self.embed = Embedding(c.vocab, c.width)
    if c.attention.positions == "learned":
      self.places = Embedding(c.inputs.first_place + c.context, c.width, dim="T")
    if c.inputs.types:
      self.kinds = Embedding(c.inputs.types, c.width, dim="C")
    # Of the embeddings, or the last one.
    self.norm = Norm("layer", c.residual.eps, bias=True)
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    if says.head == "tokens":
      self.head = Hidden(c.activation, c.residual.eps, c.run.dtype)
      rows = -(-c.vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
      self.bias_V = weight(self, "bias", "V", (rows,), nn.initializers.zeros)
    if says.pooler:
      self.pooler = Dense(c.width, c.run.dtype)
    if says.follows:
      self.follows = Dense(2, c.run.dtype)
    if says.hidden:
      self.hidden = Dense(c.width, c.run.dtype)
    if says.classifies or says.head == "span":
      self.classifier = Dense(says.classes, c.run.dtype)

  def __call__(self, tokens_BT, **how):
    """What the head says, in float32, and None.

    logits_BTV of the token that belongs in each place, and so on:
    see lm/nn/task_heads.py, and the methods below. Without a head, x_BTD as `features`
    has it.
    """
    x_BTD, _, _ = self.features(tokens_BT, **how)
    says = self.config.says
    if self.is_initializing() and says.pooler:
      self.pool(x_BTD)
    if self.is_initializing() and says.follows:
      self.next_sentence(x_BTD)
    if says.head == "tokens":
      return self.readout(x_BTD)[..., : self.config.vocab], None
    methods = {"next": self.next_sentence, "classes": self.classify}
    methods |= {"labels": self.label, "span": self.label, "none": lambda x_BTD: x_BTD}
    return methods[says.head](x_BTD), None

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
    """x_BTD before the readout, and None: an encoder reads whole rows, without a cache.

    `types_BT` says which part of the row a token is in, 0 (by default) or 1. Positions
    default to 0, 1, 2..., from 0 in every segment; -1 is padding, which nobody sees.
    """
    c = self.config
    if cache is not None:
      raise Mistake("an encoder has no cache: every token sees those after it")
    if types_BT is not None and not c.inputs.types:
      raise Mistake("types_BT for a model without types; set types=2 or leave it out")
    mask = Mask(positions_BT, positions_BT, segments_BT, segments_BT).replace(
      causal=False
    )
    at = places(tokens_BT, positions_BT, segments_BT)
    first, keys_L = None, None
    if train and c.run.dropout:
      first, rest = jax.random.split(self.make_rng("dropout"))
      keys_L = jax.random.split(rest, c.layers)

    x_BTD, angles = self.embed(tokens_BT), None
    if c.attention.positions == "learned":
      x_BTD += self.places(c.inputs.first_place + jnp.maximum(at, 0))
    else:
      angles = rotary(at, c.attention.sizes(c.width)[2], c.rope)
    if c.inputs.types:
      x_BTD += self.kinds(jnp.zeros_like(tokens_BT) if types_BT is None else types_BT)
    x_BTD = self.norm(x_BTD) if c.residual.post_norm else x_BTD
    x_BTD = dropout(first, x_BTD, c.run.dropout)
    x_BTD, _ = self.blocks(x_BTD, keys_L, mask, angles)
    return Features(x_BTD if c.residual.post_norm else self.norm(x_BTD))

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    self._wants(c.says.head == "tokens", "head='tokens'")
    logits_BTV = self.embed.readout(self.head(x_BTD), c.run.dtype)
    return mask_padding(logits_BTV + self.bias_V[None, None], c.vocab)

  def pool(self, x_BTD):
    """pooled_BD, what the first token knows of its row."""
    self._wants(self.config.says.pooler, "pooler=True")
    return jnp.tanh(self.pooler(x_BTD[:, :1])[:, 0])

  def next_sentence(self, x_BTD):
    """logits_BC: the second part of the row follows the first (0), or does not (1)."""
    wanted = "pooler=True and head='tokens' or 'next'"
    self._wants(self.config.says.follows, wanted)
    return self.follows(self.pool(x_BTD)[:, None])[:, 0]

  def classify(self, x_BTD):
    """logits_BC of the row's class, from its first token."""
    says = self.config.says
    self._wants(says.head == "classes", "head='classes'")
    if says.hidden:
      h_B1D = HIDDEN[says.hidden](self.hidden(x_BTD[:, :1]))
    else:
      h_B1D = self.pool(x_BTD)[:, None]
    return self.classifier(h_B1D)[:, 0]

  def label(self, x_BTD):
    """logits_BTC of every token's class; or C are an answer's start and its end."""
    self._wants(self.config.says.head in ("labels", "span"), "head='labels' or 'span'")
    return self.classifier(x_BTD)

  def _wants(self, has: bool, what: str):
    if not has:
      says = self.config.says
      raise Mistake(
        f"this encoder has head={says.head!r}, pooler={says.pooler}; wanted {what}"
      )
