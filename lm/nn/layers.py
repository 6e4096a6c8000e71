"""Norms, feed-forward, embedding, readout and dropout."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.letters import constrain, constrain_to, spec, weight
from lm.nn.linear import dot, linear

VOCAB_MULTIPLE = 128  # lanes of a TPU; also lets every usual mesh split the vocabulary

ACTIVATIONS = {
  "swiglu": jax.nn.silu,
  "geglu": lambda x: jax.nn.gelu(x, approximate=True),
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
  "relu": jax.nn.relu,
  "relu2": lambda x: jnp.square(jax.nn.relu(x)),
}
GATED = ("swiglu", "geglu")
NORMS = ("layer", "rms", "rms_about_one")


class Norm(nn.Module):
  """RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450), last dimension.

  `rms_about_one` keeps its scale as an offset from one (Gemma): bit for bit what such
  a checkpoint holds, and decay pulls the scale to one.
  """

  kind: str
  eps: float
  dim: str = "D"
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


class FeedForward(nn.Module):
  """Two matmuls and an activation, or three with a gate (arXiv:2002.05202)."""

  size: int
  activation: str
  bias: bool
  dtype: str
  scale: float  # of the way back into the residual stream

  @nn.compact
  def __call__(self, x_BTD):
    D, F = x_BTD.shape[-1], self.size
    act = ACTIVATIONS[self.activation]
    x_BTD = x_BTD.astype(self.dtype)

    def into(name):
      return linear(
        self, name, "BTD,DF->BTF", x_BTD, (D, F), dtype=self.dtype, bias=self.bias
      )

    if self.activation in GATED:
      h_BTF = act(into("gate")) * into("up")
    else:
      h_BTF = act(into("up"))
    h_BTF = constrain(h_BTF, "BTF")
    return linear(
      self,
      "down",
      "BTF,FD->BTD",
      h_BTF,
      (F, D),
      dtype=self.dtype,
      bias=self.bias,
      scale=self.scale,
    )


class Embedding(nn.Module):
  """A table of vectors, its vocabulary padded to a multiple of 128."""

  size: int
  width: int
  dim: str = "V"
  std: float = 0.02

  def setup(self):
    multiple = VOCAB_MULTIPLE if self.dim == "V" else 1
    rows = -(-self.size // multiple) * multiple
    init = nn.initializers.normal(self.std)
    self.table_VD = weight(self, "table", self.dim + "D", (rows, self.width), init)

  def __call__(self, tokens_BT):
    # A table sharded over both dimensions cannot be gathered from without moving all of
    # it; held whole in D, each device looks up its own rows.
    where = jax.sharding.PartitionSpec(spec(self.dim + "D")[0], None)
    table_VD = constrain_to(self.table_VD, where)
    return constrain(jnp.take(table_VD, tokens_BT, axis=0), "BTD")

  def readout(self, x_BTD, dtype):
    """logits_BTV against this table; V is padded, see `mask_padding`."""
    return dot("BTD,VD->BTV", x_BTD, self.table_VD, dtype)


class Readout(nn.Module):
  """logits_BTV from a table of its own (an untied softmax); see `mask_padding`."""

  size: int
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    rows = -(-self.size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    shape = (x_BTD.shape[-1], rows)
    return linear(self, "table", "BTD,DV->BTV", x_BTD, shape, dtype=self.dtype)


def mask_padding(logits_BTV, vocab: int):
  """The logits with the entries past the vocabulary at -inf's finite neighbour.

  Cutting them off instead would leave V indivisible by the mesh. This comes last: a
  soft-cap after it would make the padding likely again.
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
  """`x` with a share `rate` zeroed, the rest scaled up; no key means evaluation."""
  if key is None or rate == 0:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), 0)
