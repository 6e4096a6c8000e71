"""Norms, feed-forward, embeddings, readout, dropout and the residual stream."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.letters import constrain, constrain_to, spec, weight
from lm.nn.linear import dot, linear, take

VOCAB_MULTIPLE = 128  # lanes of a TPU; also lets every usual mesh split the vocabulary

ACTIVATIONS = {
  "swiglu": jax.nn.silu,
  "geglu": lambda x: jax.nn.gelu(x, approximate=True),
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "silu": jax.nn.silu,
  "relu2": lambda x: jnp.square(jax.nn.relu(x)),
}
GATED = ("swiglu", "geglu")
NORMS = ("layer", "rms", "rms_about_one")


class Norm(nn.Module, kw_only=True):
  """RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450) of the last dimension.

  Computed in float32. `rms_about_one` stores its scale as an offset from one (Gemma),
  as such checkpoints do, so that weight decay pulls the scale towards one.
  """

  kind: str  # see NORMS
  eps: float  # added to the mean of squares
  dim: str = "D"  # letter of the last dimension
  bias: bool = False

  @nn.compact
  def __call__(self, x):
    size = (x.shape[-1],)
    x = x.astype(jnp.float32)
    if self.kind == "layer":
      x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.eps)
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    if self.kind == "rms_about_one":
      scale = 1 + weight(self, "offset", self.dim, size, zeros)
    else:
      scale = weight(self, "scale", self.dim, size, ones)
    x = x * scale.reshape((1,) * (x.ndim - 1) + size)
    if self.bias:
      shift = weight(self, "bias", self.dim, size, zeros)
      x = x + shift.reshape((1,) * (x.ndim - 1) + size)
    return x


class FeedForward(nn.Module, kw_only=True):
  """Two matmuls with an activation between, or three with a gate (arXiv:2002.05202)."""

  size: int  # F
  activation: str  # see ACTIVATIONS; those in GATED have the third matmul
  bias: bool
  dtype: str  # of the operands
  scale: float  # of the initial weights of the output projection

  @nn.compact
  def __call__(self, x_BTD):
    D, F = x_BTD.shape[-1], self.size
    act = ACTIVATIONS[self.activation]
    x_BTD = x_BTD.astype(self.dtype)
    options = dict(dtype=self.dtype, bias=self.bias)

    def project(name):
      return linear(self, name, "BTD,DF->BTF", x_BTD, (D, F), **options)

    if self.activation in GATED:
      h_BTF = act(project("gate")) * project("up")
    else:
      h_BTF = act(project("up"))
    h_BTF = constrain(h_BTF, "BTF")
    options["scale"] = self.scale
    return linear(self, "down", "BTF,FD->BTD", h_BTF, (F, D), **options)


def padded(vocab: int) -> int:
  """Rows of a table of the vocabulary: a multiple of VOCAB_MULTIPLE."""
  return -(-vocab // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


class Embedding(nn.Module, kw_only=True):
  """A table of vectors; with `dim` V its rows are `padded`."""

  size: int  # how many vectors
  width: int  # D
  dim: str = "V"  # letter of the rows
  std: float = 0.02  # of the initial normal

  def setup(self):
    rows = padded(self.size) if self.dim == "V" else self.size
    init = nn.initializers.normal(self.std)
    self.table = weight(self, "table", self.dim + "D", (rows, self.width), init)

  def __call__(self, ids_BT):
    # A table sharded over both dimensions cannot be gathered from without moving all of
    # it; held whole in D, each device looks up its own rows.
    where = jax.sharding.PartitionSpec(spec(self.dim + "D")[0], None)
    table_VD = constrain_to(self.table, where)
    return constrain(take(table_VD, ids_BT), "BTD")

  def readout(self, x_BTD, dtype: str):
    """logits_BTV against this table, V padded; see `mask_padding`."""
    return dot("BTD,VD->BTV", x_BTD, self.table, dtype)


class LearnedPositions(Embedding, kw_only=True):
  """A vector for every position; padding, at position -1, has that of position 0."""

  dim: str = "T"
  first: int = 0  # the row of position 0; those before it are not used (RoBERTa has 2)

  def __call__(self, positions):
    """Vectors of width D for positions BT, or 1T when all rows have the same."""
    return super().__call__(self.first + jnp.maximum(positions, 0))


class TokenTypes(Embedding, kw_only=True):
  """A vector for every part of a row (BERT's sentence A and B, arXiv:1810.04805)."""

  dim: str = "C"

  def __call__(self, tokens_BT, types_BT=None):
    """x_BTD of the types; None means that all tokens have type 0."""
    return super().__call__(jnp.zeros_like(tokens_BT) if types_BT is None else types_BT)


class Readout(nn.Module, kw_only=True):
  """logits_BTV in float32 from a table of its own, or from a tied embedding.

  V is `padded`; the logits of its padding are the smallest float32. A `softcap` above 0
  holds the others within (-softcap, softcap).
  """

  vocab: int
  dtype: str  # of the operands
  tied_to: Embedding | None = None  # arXiv:1608.05859
  softcap: float = 0.0

  @nn.compact
  def __call__(self, x_BTD):
    if self.tied_to is not None:
      logits_BTV = self.tied_to.readout(x_BTD, self.dtype)
    else:
      shape = (x_BTD.shape[-1], padded(self.vocab))
      logits_BTV = linear(self, "table", "BTD,DV->BTV", x_BTD, shape, dtype=self.dtype)
    return mask_padding(softcap(logits_BTV, self.softcap), self.vocab)


def mask_padding(logits_BTV, vocab: int):
  """The logits with those of the padding, from `vocab` on, at the smallest float32.

  Cutting them off would leave V indivisible by the mesh. Comes last: a soft-cap after
  it would make the padding likely again.
  """
  logits_BTV = constrain(logits_BTV, "BTV")
  if logits_BTV.shape[-1] == vocab:
    return logits_BTV
  real_V = jnp.arange(logits_BTV.shape[-1]) < vocab
  return jnp.where(real_V[None, None], logits_BTV, jnp.finfo(jnp.float32).min)


def softcap(logits, cap: float):
  """Logits held smoothly within (-cap, cap); 0 leaves them alone (Gemma 2)."""
  return cap * jnp.tanh(logits / cap) if cap else logits


def dropout(key, x, rate: float):
  """`x` with a share `rate` zeroed and the rest scaled up; as it is without a key."""
  if key is None or rate == 0:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0)


def dropout_key(module: nn.Module, rate: float, *, train: bool):
  """The key of a model's dropout; None in evaluation and without dropout."""
  return module.make_rng("dropout") if train and rate else None


def split_key(key, count: int):
  """`count` keys, or `count` times None without a key."""
  return (None,) * count if key is None else jax.random.split(key, count)


def layer_keys(key, L: int):
  """(key of the embeddings, keys_L of the layers); (None, None) without a key."""
  first, rest = split_key(key, 2)
  return first, None if rest is None else jax.random.split(rest, L)


def residual(module: nn.Module, name: str, x_BTD):
  """The residual stream behind the sublayer `name`, sharded as BTD and recorded.

  A model that is applied with mutable=["intermediates"] returns it there, at the path
  of the block, as `<name>_residual_BTD`: a tuple of one array, with L in front.

    _, seen = model.apply(variables, tokens_BT, mutable=["intermediates"])
    (x_LBTD,) = seen["intermediates"]["blocks"]["layer"]["attention_residual_BTD"]
  """
  x_BTD = constrain(x_BTD, "BTD")
  module.sow("intermediates", f"{name}_residual_BTD", x_BTD)
  return x_BTD
