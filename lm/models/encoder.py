"""Bidirectional encoders of the BERT kind, with one of several output heads or none.

BERT: Devlin et al. 2018, arXiv:1810.04805; its small sizes: arXiv:1908.08962. Norms in
front of the sublayers (`post_norm=False`): arXiv:2002.04745; rotary positions in place
of learned ones, as ModernBERT: arXiv:2412.13663. A classifier with a layer of its own:
RoBERTa, arXiv:1907.11692; DistilBERT, arXiv:1910.01108. What differs: weights start
from a normal with std 1/sqrt(fan in), embeddings from 0.02; norms, softmax and the
residual stream are float32 whatever `dtype` is; dropout is one rate, and none falls on
attention's probabilities, nor in a head.

Read first: nn/attention/__init__.py (Attention), nn/attention/masks.py (Mask),
nn/layers.py (Norm, FeedForward, Embedding), nn/task_heads.py, nn/depth.py (Stack).
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import weight
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
from lm.nn.positions.rotary import Rope, rotary
from lm.nn.task_heads import (
  HIDDEN,
  PARTS,
  Dense,
  TaskHead,
  TokenTransform,
  token_of_each,
)


@dataclass(frozen=True)
class Inputs:
  """The vectors that are added to the embeddings of the tokens."""

  types: int = 2  # parts of a row, each with a vector of its own; 0 means none
  first_position: int = 0  # row of learned positions for the first token (RoBERTa: 2)

  def __post_init__(self):
    not_negative(self, "types", "first_position", zero="none")


@dataclass(frozen=True)
class Residual:
  """The form of a block's residual sums and norms."""

  eps: float = 1e-12  # of the norms
  post_norm: bool = True  # norms behind every residual sum, as BERT; or in front

  def __post_init__(self):
    positive(self, "eps")


@dataclass(frozen=True)
class Config:
  """The sizes of an encoder, and which of the published kinds it is."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 512  # the longest row: a limit, and the size of learned positions
  width: int = 768  # D
  layers: int = 12  # L: blocks
  ff: int = 0  # F; 0 means 4 D
  activation: str = "gelu"  # see lm.nn.layers.ACTIVATIONS
  inputs: Inputs = field(default_factory=Inputs)
  task: TaskHead = field(default_factory=TaskHead)
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
      if self.inputs.first_position:
        raise Mistake("first_position is for positions='learned'; leave it out")
    one_of("activation", self.activation, ACTIVATIONS)

  @property
  def F(self) -> int:
    """Features of the feed-forward."""
    return self.ff or 4 * self.width


def _bert(width, layers):
  """The fields of a BERT, whose heads have size 64."""
  return dict(width=width, layers=layers, heads=width // 64)


PRESETS = {
  "bert-tiny": _bert(128, 2),
  "bert-mini": _bert(256, 4),
  "bert-small": _bert(512, 4),
  "bert-base": _bert(768, 12),
  "bert-large": _bert(1024, 24),
}


class Block(nn.Module):
  """Attention and the feed-forward, each added to the residual stream x.

  post_norm (BERT)   x = norm(x + attention(x));  x = norm(x + ff(x))
  otherwise          x += attention(norm(x));     x += ff(norm(x))
  """

  config: Config

  @nn.compact
  def __call__(self, x_BTD, key, rows):
    """(x_BTD, None); `key` is the layer's key of dropout, or None."""
    c, rate, eps = self.config, self.config.run.dropout, self.config.residual.eps
    keys = split_key(key, 2)
    scale = 1.0 if c.residual.post_norm else (2 * c.layers) ** -0.5
    options = dict(bias=True, dtype=c.run.dtype, scale=scale)
    attention_norm = Norm(kind="layer", eps=eps, bias=True, name="attention_norm")
    attention = Attention(
      heads=c.attention, out_bias=True, eps=eps, **options, name="attention"
    )
    ff_norm = Norm(kind="layer", eps=eps, bias=True, name="ff_norm")
    ff = FeedForward(size=c.F, activation=c.activation, **options, name="ff")

    if c.residual.post_norm:
      y_BTD, _ = attention(x_BTD, **rows)
      x_BTD += dropout(keys[0], y_BTD, rate)
      x_BTD = residual(self, "attention", attention_norm(x_BTD))
      x_BTD += dropout(keys[1], ff(x_BTD), rate)
      x_BTD = residual(self, "ff", ff_norm(x_BTD))
    else:
      y_BTD, _ = attention(attention_norm(x_BTD), **rows)
      x_BTD += dropout(keys[0], y_BTD, rate)
      x_BTD = residual(self, "attention", x_BTD)
      x_BTD += dropout(keys[1], ff(ff_norm(x_BTD)), rate)
      x_BTD = residual(self, "ff", x_BTD)
    return x_BTD, None


class Model(LanguageModel):
  """An encoder; what it returns for a row depends on `config.task.head`."""

  config: Config
  traits = Traits(sees="both", reads=(*READS, "types_BT"), head=PARTS)

  def setup(self):
    c, task = self.config, self.config.task
    self.embed = Embedding(size=c.vocab, width=c.width)
    if c.attention.positions == "learned":
      first = c.inputs.first_position
      self.positions = LearnedPositions(
        size=first + c.context, width=c.width, first=first
      )
    if c.inputs.types:
      self.types = TokenTypes(size=c.inputs.types, width=c.width)
    # Of the embeddings with post_norm, else the last one.
    self.norm = Norm(kind="layer", eps=c.residual.eps, bias=True)
    self.blocks = Stack(block=Block, config=c, length=c.layers, run=c.run)
    if task.head == "tokens":
      options = dict(activation=c.activation, eps=c.residual.eps, dtype=c.run.dtype)
      self.head = TokenTransform(**options)
      zeros = nn.initializers.zeros
      self.bias_V = weight(self, "bias", "V", (padded(c.vocab),), zeros)
    if task.pooler:
      self.pooler = Dense(size=c.width, dtype=c.run.dtype)
    if task.follows:
      self.follows = Dense(size=2, dtype=c.run.dtype)
    if task.hidden:
      self.hidden = Dense(size=c.width, dtype=c.run.dtype)
    if task.classifies or task.head == "span":
      self.classifier = Dense(size=task.classes, dtype=c.run.dtype)

  def __call__(self, tokens_BT, **inputs):
    """(the output of the head in float32, None).

    logits_BTV of the token that belongs in each place, and so on: see HEADS in
    lm/nn/task_heads.py, and the methods below. Without a head, x_BTD of `features`.
    """
    x_BTD = self.features(tokens_BT, **inputs).x_BTD
    task = self.config.task
    if self.is_initializing() and task.pooler:
      self.pool(x_BTD)
    if self.is_initializing() and task.follows:
      self.next_sentence(x_BTD)
    if task.head == "tokens":
      return self.readout(x_BTD)[..., : self.config.vocab], None
    heads = {"next": self.next_sentence, "classes": self.classify}
    heads |= {"labels": self.label, "span": self.label, "none": lambda x_BTD: x_BTD}
    return heads[task.head](x_BTD), None

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
    """Features: x_BTD. An encoder reads whole rows: a cache is a Mistake.

    `types_BT` is the part of the row that a token is in, 0 (by default) or 1. Positions
    default to 0, 1, 2..., from 0 in every segment; -1 is padding, which nobody sees.
    """
    c, rate = self.config, self.config.run.dropout
    if cache is not None:
      raise Mistake("an encoder has no cache: every token sees those after it")
    if types_BT is not None and not c.inputs.types:
      raise Mistake("types_BT for a model without types; set types=2 or leave it out")
    mask = Mask.both_ways(positions_BT, segments_BT)
    positions = default_positions(tokens_BT, positions_BT, segments_BT)
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)

    x_BTD, angles = self.embed(tokens_BT), None
    if c.attention.positions == "learned":
      x_BTD += self.positions(positions)
    else:
      angles = rotary(positions, c.attention.sizes(c.width)[2], c.rope)
    if c.inputs.types:
      x_BTD += self.types(tokens_BT, types_BT)
    x_BTD = self.norm(x_BTD) if c.residual.post_norm else x_BTD
    x_BTD = dropout(first, x_BTD, rate)
    x_BTD, _ = self.blocks(x_BTD, keys_L, {"mask": mask, "angles": angles})
    return Features(x_BTD if c.residual.post_norm else self.norm(x_BTD))

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    self._require(c.task.head == "tokens", "head='tokens'")
    logits_BTV = self.embed.readout(self.head(x_BTD), c.run.dtype)
    return mask_padding(logits_BTV + self.bias_V[None, None], c.vocab)

  def pool(self, x_BTD):
    """pooled_BD: a tanh layer on the first token of each row."""
    self._require(self.config.task.pooler, "pooler=True")
    return jnp.tanh(self.pooler(x_BTD[:, :1])[:, 0])

  def next_sentence(self, x_BTD):
    """logits_BC: the second part of the row follows the first (0), or does not (1)."""
    wanted = "pooler=True and head='tokens' or 'next'"
    self._require(self.config.task.follows, wanted)
    return self.follows(self.pool(x_BTD)[:, None])[:, 0]

  def classify(self, x_BTD, segments_BT=None, *, num: int = 0):
    """logits_BC of the row's class, or logits_BPC of `num` texts: by the first token.

    Text p of a row has segment p + 1.
    """
    task = self.config.task
    self._require(task.head == "classes", "head='classes'")
    x_BPD = token_of_each(x_BTD, segments_BT, num, last=False)
    if task.hidden:
      h_BPD = HIDDEN[task.hidden](self.hidden(x_BPD))
    else:
      h_BPD = jnp.tanh(self.pooler(x_BPD))
    logits_BPC = self.classifier(h_BPD)
    return logits_BPC if num else logits_BPC[:, 0]

  def label(self, x_BTD):
    """logits_BTC of every token's class; with "span", of an answer's start and end."""
    head = self.config.task.head
    self._require(head in ("labels", "span"), "head='labels' or 'span'")
    return self.classifier(x_BTD)

  def _require(self, condition: bool, wanted: str):
    """Raises Mistake when the model has another head than a method needs."""
    if not condition:
      task = self.config.task
      raise Mistake(
        f"this encoder has head={task.head!r}, pooler={task.pooler}; wanted {wanted}"
      )
