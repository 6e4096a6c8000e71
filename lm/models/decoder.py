"""Decoder-only Transformers: GPT-2 and Llama kinds, and what lies between them.

GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
Llama: arXiv:2302.13971, 2307.09288 and 2407.21783. Grouped queries: arXiv:2305.13245.
Mistral: arXiv:2310.06825. Qwen 2 and 3: arXiv:2407.10671 and 2505.09388. GPT-NeoX and
Pythia: arXiv:2204.06745 and 2304.01373. OLMo 2: arXiv:2501.00656. SmolLM 2:
arXiv:2502.02737. Mixtral: arXiv:2401.04088.
What differs: weights start from a normal with std 1/sqrt(fan in), those that write into
the residual stream divided by sqrt(2 L), embeddings with 0.02; norms, softmax and the
residual stream are float32 whatever `dtype` is.

Read first: nn/attention/__init__.py (Attention) and cache.py (KVCache, begin),
nn/layers.py (Norm, FeedForward, Embedding, Readout), nn/depth.py (Stack);
nn/experts.py for mixtures.
"""

from dataclasses import dataclass, field
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.models import Auxiliary, Features, LanguageModel, Traits
from lm.nn.attention import Attention, Heads, KVCache, begin
from lm.nn.depth import Run, Stack
from lm.nn.experts import Experts, Feed, traffic
from lm.nn.layers import (
  NORMS,
  Embedding,
  FeedForward,
  LearnedPositions,
  Norm,
  Readout,
  dropout,
  dropout_key,
  layer_keys,
  residual,
  split_key,
)
from lm.nn.positions.rotary import Rope, rotary
from lm.nn.task_heads import LAST_PARTS, LastClassifier, LastHead, require_head

ORDERS = ("before", "after", "parallel")


@dataclass(frozen=True)
class Residual:
  """The form of a block's residual sums and norms."""

  norm: str = "rms"  # or "layer"
  eps: float = 1e-5  # of the norms
  order: str = "before"  # of norms and sums: "before", "after", "parallel"; see Block

  def __post_init__(self):
    one_of("norm", self.norm, NORMS)
    one_of("order", self.order, ORDERS)
    positive(self, "eps")


@dataclass(frozen=True)
class Config:
  """The sizes of a decoder, and which of the published kinds it is."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 1024  # the longest row: a limit, and the size of learned positions
  width: int = 768  # D
  layers: int = 12  # L: blocks
  bias: bool = False  # of matmuls and norms
  logit_softcap: float = 0.0  # 0 means none
  attention: Heads = field(default_factory=Heads)
  rope: Rope = field(default_factory=Rope)
  feed: Feed = field(default_factory=Feed)
  residual: Residual = field(default_factory=Residual)
  task: LastHead = field(default_factory=LastHead)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "context", "width", "layers")
    not_negative(self, "logit_softcap")
    H = self.attention.sizes(self.width)[2]
    if self.attention.positions == "rotary":
      self.rope.size(H)
    if self.feed.experts and self.bias:
      raise Mistake("bias with experts, which have none here; leave out one of them")

  @property
  def F(self) -> int:
    """Features of the feed-forward, or of each expert."""
    return self.feed.size(self.width)


def _gpt2(width, layers, heads, context=1024):
  """The fields of a GPT-2."""
  return dict(
    width=width,
    layers=layers,
    heads=heads,
    context=context,
    positions="learned",
    norm="layer",
    activation="gelu_tanh",
    bias=True,
  )


def _llama(width, layers, heads, kv_heads, ff, context, **others):
  """The fields of a Llama, with `others` in place of or beside them."""
  sizes = dict(width=width, layers=layers, heads=heads, kv_heads=kv_heads, ff=ff)
  return dict(sizes, context=context, tied=False) | others


def _pythia(width, layers, heads):
  """The fields of a Pythia: a GPT-NeoX."""
  others = dict(rotary_share=0.25, order="parallel", activation="gelu", tied=False)
  return _gpt2(width, layers, heads, 2048) | others | dict(positions="rotary")


# Llama 3.2 1B was stretched from 8k to 128k tokens.
LLAMA_3_SCALING = dict(scaling="llama3", factor=32.0, original_context=8192)
QWEN_2 = dict(qkv_bias=True, theta=1e6, eps=1e-6)
QWEN_3 = dict(qk_norm="head", head_size=128, theta=1e6, eps=1e-6)
MIXTRAL = dict(experts=8, top_k=2, theta=1e6, balance=0.02)
OLMO_2 = dict(order="after", qk_norm="width", theta=5e5, eps=1e-6)

PRESETS = {
  "gpt2-tiny": _gpt2(128, 4, 4, 256),
  "gpt2-124m": _gpt2(768, 12, 12),
  "gpt2-355m": _gpt2(1024, 24, 16),
  "gpt2-774m": _gpt2(1280, 36, 20),
  "gpt2-1.5b": _gpt2(1600, 48, 25),
  "llama-tiny": _llama(192, 4, 2, 0, 512, 256, tied=True),
  "llama-160m": _llama(768, 12, 12, 12, 3072, 2048, eps=1e-6),
  "llama-1b": _llama(
    2048, 16, 32, 8, 8192, 131_072, theta=5e5, tied=True, **LLAMA_3_SCALING
  ),
  "llama-8b": _llama(4096, 32, 32, 8, 14_336, 8192, theta=5e5),
  "llama-70b": _llama(8192, 80, 64, 8, 28_672, 8192, theta=5e5),
  "mixtral-tiny": _llama(
    192, 4, 2, 0, 256, 256, tied=True, experts=8, top_k=2, capacity=1.25
  ),
  "mixtral-8x7b": _llama(4096, 32, 32, 8, 14_336, 32_768, **MIXTRAL),
  "mistral-7b": _llama(4096, 32, 32, 8, 14_336, 32_768, window=4096),
  "qwen2-0.5b": _llama(896, 24, 14, 2, 4864, 131_072, tied=True, **QWEN_2),
  "qwen2-7b": _llama(3584, 28, 28, 4, 18_944, 131_072, **QWEN_2),
  "qwen3-0.6b": _llama(1024, 28, 16, 8, 3072, 40_960, tied=True, **QWEN_3),
  "qwen3-8b": _llama(4096, 36, 32, 8, 12_288, 40_960, **QWEN_3),
  "pythia-70m": _pythia(512, 6, 8),
  "pythia-160m": _pythia(768, 12, 12),
  "pythia-410m": _pythia(1024, 24, 16),
  "pythia-1.4b": _pythia(2048, 24, 16),
  "olmo2-1b": _llama(2048, 16, 16, 16, 8192, 4096, **OLMO_2),
  "olmo2-7b": _llama(4096, 32, 32, 32, 11_008, 4096, **OLMO_2),
  "smollm2-135m": _llama(576, 30, 9, 3, 1536, 8192, theta=1e5, tied=True),
  "smollm2-360m": _llama(960, 32, 15, 5, 2560, 8192, theta=1e5, tied=True),
  "smollm2-1.7b": _llama(2048, 24, 32, 32, 8192, 8192, theta=1.3e5, tied=True),
}


class Block(nn.Module):
  """Attention and the feed-forward, each added to the residual stream x.

  before (GPT-2, Llama)    x += attention(norm(x));  x += ff(norm(x))
  after (OLMo 2)           x += norm(attention(x));  x += norm(ff(x))
  parallel (GPT-NeoX)      x += attention(norm(x)) + ff(norm'(x))
  """

  config: Config

  @nn.compact
  def __call__(self, x_BTD, inputs, rows):
    """(x_BTD, outputs); `inputs` has "kv" and "key", `outputs` "kv" and "means"."""
    c, rate = self.config, self.config.run.dropout
    keys = split_key(inputs["key"], 2)
    norm = partial(Norm, kind=c.residual.norm, eps=c.residual.eps, bias=c.bias)
    attention_norm, ff_norm = norm(name="attention_norm"), norm(name="ff_norm")
    attention = self._attention(inputs["kv"], rows)
    ff = self._feed_forward(rows["routing"])

    if c.residual.order == "before":
      y_BTD, kv = attention(attention_norm(x_BTD))
      x_BTD += dropout(keys[0], y_BTD, rate)
      x_BTD = residual(self, "attention", x_BTD)
      y_BTD, means = ff(ff_norm(x_BTD))
      x_BTD += dropout(keys[1], y_BTD, rate)
    elif c.residual.order == "after":
      y_BTD, kv = attention(x_BTD)
      x_BTD += dropout(keys[0], attention_norm(y_BTD), rate)
      x_BTD = residual(self, "attention", x_BTD)
      y_BTD, means = ff(x_BTD)
      x_BTD += dropout(keys[1], ff_norm(y_BTD), rate)
    else:
      attended_BTD, kv = attention(attention_norm(x_BTD))
      y_BTD, means = ff(ff_norm(x_BTD))
      x_BTD += dropout(keys[0], attended_BTD, rate)
      x_BTD = residual(self, "attention", x_BTD)
      x_BTD += dropout(keys[1], y_BTD, rate)
    return residual(self, "ff", x_BTD), {"kv": kv, "means": means}

  def _attention(self, kv, rows):
    """x_BTD -> (y_BTD, kv)."""
    c = self.config
    module = Attention(
      heads=c.attention,
      bias=c.bias,
      out_bias=c.bias,
      dtype=c.run.dtype,
      eps=c.residual.eps,
      scale=(2 * c.layers) ** -0.5,
      name="attention",
    )
    given = {name: rows[name] for name in ("mask", "angles", "slot")}
    return partial(module, kv=kv, **given)

  def _feed_forward(self, routing):
    """x_BTD -> (y_BTD, means of the auxiliary losses: {} without experts)."""
    c = self.config
    options = dict(dtype=c.run.dtype, scale=(2 * c.layers) ** -0.5, name="ff")
    if c.feed.experts:
      experts = Experts(feed=c.feed, **options)
      return lambda x_BTD: experts(x_BTD, routing)
    ff = FeedForward(size=c.F, activation=c.feed.activation, bias=c.bias, **options)
    return lambda x_BTD: (ff(x_BTD), {})


class Model(LanguageModel):
  """A decoder of any of these kinds."""

  config: Config
  traits = Traits(decodes=True, head=LAST_PARTS)

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width)
    if c.attention.positions == "learned":
      self.positions = LearnedPositions(size=c.context, width=c.width)
    self.blocks = Stack(block=Block, config=c, length=c.layers, run=c.run)
    self.norm = Norm(kind=c.residual.norm, eps=c.residual.eps, bias=c.bias)
    if c.task.head == "classes":
      self.classifier = LastClassifier(classes=c.task.classes, dtype=c.run.dtype)
    else:
      self.head = Readout(
        vocab=c.vocab,
        dtype=c.run.dtype,
        tied_to=self.embed if c.task.tied else None,
        softcap=c.logit_softcap,
      )

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """Features: x_BTD, the cache, and the auxiliary losses of experts.

    Positions default to 0, 1, 2..., from 0 in every segment, or from where the cache
    stands; -1 is padding. Positions past `config.context` are not noticed here.
    """
    c, rate = self.config, self.config.run.dropout
    mask, positions, cache, kv, slot = begin(
      tokens_BT, positions_BT, segments_BT, cache
    )
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)

    x_BTD, angles = self.embed(tokens_BT), None
    if c.attention.positions == "learned":
      x_BTD += self.positions(positions)
    else:
      angles = rotary(positions, c.attention.sizes(c.width)[2], c.rope)
    x_BTD = dropout(first, x_BTD, rate)
    routing = traffic(positions_BT, segments_BT, train=train)
    rows = {"mask": mask, "angles": angles, "routing": routing, "slot": slot}
    x_BTD, outputs = self.blocks(x_BTD, {"kv": kv, "key": keys_L}, rows)
    if cache is not None:
      cache = cache.replace(**outputs["kv"])
    return Features(self.norm(x_BTD), cache, self._losses(outputs["means"]))

  def _losses(self, means) -> dict:
    """The auxiliary losses of the experts, averaged over the layers."""
    feed = self.config.feed
    weights = {"balance": feed.balance, "router_z": feed.router_z, "dropped_share": 0.0}
    means = {name: jnp.mean(jnp.asarray(mean_L)) for name, mean_L in means.items()}
    return {n: Auxiliary(weights[n] * mean, mean) for n, mean in means.items()}

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    require_head(self, "tokens")
    return self.head(x_BTD)

  def classify(self, x_BTD, segments_BT=None, *, num: int = 0):
    """logits_BC of the row's class, or logits_BPC of `num` texts: by the last token."""
    require_head(self, "classes")
    logits_BPC = self.classifier(x_BTD, segments_BT, num)
    return logits_BPC if num else logits_BPC[:, 0]

  def init_cache(self, batch: int, size: int) -> KVCache:
    """An empty cache for rows of up to `size` tokens; needs no parameters."""
    c = self.config
    _, K, H = c.attention.sizes(c.width)
    return KVCache.empty(c.layers, (batch, size, K, H), scan=c.run.scan)
