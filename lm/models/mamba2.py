"""Mamba-2: a state space model whose decays depend on the token; no attention.

Dao and Gu 2024, arXiv:2405.21060; sizes are those of its released models. Training and
reading a prompt work on chunks of the row at once, one further token is one step of the
same recurrence (lm/nn/ssd.py): memory for decoding does not grow with the row.
What differs: the input projection is five matmuls and the convolution three, which
split over devices by heads; weights start from a normal with std 1/sqrt(fan_in), those
that write into the residual stream divided by sqrt(L).
In names here J are groups of heads that share b and c, M is the state size, W the taps
of the convolution and Q the W - 1 earlier inputs that it needs.

Read first: nn/ssd.py (chunked, step), nn/state.py (State), nn/layers.py (Norm,
Embedding, Readout), nn/depth.py (Stack).
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import constrain, weight
from lm.models import Features, LanguageModel, Traits
from lm.nn import ssd
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  Embedding,
  Norm,
  Readout,
  dropout,
  dropout_key,
  layer_keys,
  residual,
)
from lm.nn.linear import linear
from lm.nn.state import State


@dataclass(frozen=True)
class Sizes:
  """The state space of a block; see lm/nn/ssd.py."""

  heads: int = 24  # N
  expand: int = 2  # N H = expand D
  state: int = 128  # M
  groups: int = 1  # J, of heads that share b and c
  taps: int = 4  # W, tokens that the short convolution sees
  chunk: int = 256  # tokens in one matmul; changes the speed, not the numbers

  def __post_init__(self):
    positive(self, *vars(self))

  def head_size(self, width: int) -> int:
    """Returns H; raises Mistake when the sizes do not fit together."""
    if self.expand * width % self.heads:
      raise Mistake(
        f"heads={self.heads} does not divide expand * width={self.expand * width}"
      )
    if self.heads % self.groups:
      raise Mistake(f"groups={self.groups} does not divide heads={self.heads}")
    return self.expand * width // self.heads


@dataclass(frozen=True)
class Config:
  """The sizes of a Mamba-2."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 768  # D
  layers: int = 24  # L: blocks
  eps: float = 1e-5  # of the norms
  tied: bool = True  # the readout is the embedding
  space: Sizes = field(default_factory=Sizes)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "width", "layers", "eps")
    not_negative(self, "context")
    self.space.head_size(self.width)


def _released(width, layers):
  """The fields of a released model, whose heads have size 64."""
  return dict(width=width, layers=layers, heads=width // 32)


PRESETS = {
  "mamba2-tiny": dict(width=192, layers=6, heads=6, state=64, chunk=64),
  "mamba2-130m": _released(768, 24),
  "mamba2-370m": _released(1024, 48),
  "mamba2-780m": _released(1536, 48),
  "mamba2-1.3b": _released(2048, 48),
  "mamba2-2.7b": _released(2560, 64),
}


class Convolution(nn.Module, kw_only=True):
  """A causal convolution over time, one filter a channel, then SiLU.

  `letters` are those of the two dimensions of channels, called N and H in names here.
  """

  letters: str
  taps: int  # W

  @nn.compact
  def __call__(self, x_BTNH, before_BQNH, runs_BT, ends_B):
    """(y_BTNH, last_BQNH): outputs, and the last Q = W - 1 inputs.

    `before_BQNH` are the inputs before the row. Only the tokens before `ends_B` are
    real (None: all are). A token sees no tokens of other runs (`runs_BT`).
    """
    (_, T, N, H), Q = x_BTNH.shape, self.taps - 1
    init = nn.initializers.normal(self.taps**-0.5)
    w_WNH = weight(self, "taps", f"W{self.letters}", (self.taps, N, H), init)
    b_NH = weight(self, "bias", self.letters, (N, H), nn.initializers.zeros)
    inputs_BSNH = jnp.concatenate([before_BQNH, x_BTNH], axis=1)
    y_BTNH = b_NH[None, None] + x_BTNH * w_WNH[None, -1:]
    for back in range(1, self.taps):
      past_BTNH = jax.lax.slice_in_dim(inputs_BSNH, Q - back, Q - back + T, axis=1)
      if runs_BT is not None:
        past_BT = jnp.pad(runs_BT, ((0, 0), (back, 0)), constant_values=-1)[:, :T]
        past_BTNH = jnp.where((past_BT == runs_BT)[..., None, None], past_BTNH, 0)
      y_BTNH += past_BTNH * w_WNH[None, Q - back][:, None]
    if ends_B is None:
      last_BQNH = inputs_BSNH[:, T:]
    else:
      index_BQ = ends_B[:, None] + jnp.arange(Q)[None]
      last_BQNH = jnp.take_along_axis(inputs_BSNH, index_BQ[..., None, None], axis=1)
    return jax.nn.silu(y_BTNH), last_BQNH


class Mixer(nn.Module):
  """The state space layer of a block (arXiv:2405.21060, section 7)."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, state, rows):
    """(y_BTD, the next state); a state of None is the empty one."""
    c, s = self.config, self.config.space
    B, T, D = x_BTD.shape
    N, H, J, M = s.heads, s.head_size(D), s.groups, s.state
    x_BTD = x_BTD.astype(c.run.dtype)
    project = lambda name, letters, *shape: linear(
      self, name, f"BTD,D{letters}->BT{letters}", x_BTD, (D, *shape), dtype=c.run.dtype
    )
    gate_BTNH = constrain(project("gate", "NH", N, H), "BTNH")
    x_BTNH = constrain(project("x", "NH", N, H), "BTNH")
    b_BTJM, c_BTJM = project("b", "JM", J, M), project("c", "JM", J, M)
    bias_N = weight(self, "dt_bias", "N", (N,), _dt_bias)
    dt_BTN = jax.nn.softplus(project("dt", "N", N) + bias_N[None, None])
    if rows["real_BT"] is not None:  # no time passes at padding
      dt_BTN = jnp.where(rows["real_BT"][..., None], dt_BTN, 0)
    rate_N = -jnp.exp(weight(self, "log_rate", "N", (N,), _log_rate))
    skip_N = weight(self, "skip", "N", (N,), nn.initializers.ones)
    if state is None:
      state = {name: jnp.zeros(shape) for name, shape in shapes(c, B).items()}
    convolved, last = {}, {}
    inputs = {"x_BQNH": x_BTNH, "b_BQJM": b_BTJM, "c_BQJM": c_BTJM}
    for name, channels in inputs.items():
      conv = Convolution(letters=name[-2:], taps=s.taps, name=f"conv_{name[0]}")
      convolved[name], last[name] = conv(
        channels, state[name], rows["runs_BT"], rows["ends_B"]
      )
    x_BTNH, b_BTJM, c_BTJM = convolved.values()
    y_BTNH, last["space_BNHM"] = _recur(
      *(x_BTNH * dt_BTN[..., None], dt_BTN * rate_N[None, None], b_BTJM, c_BTJM),
      state["space_BNHM"],
      **dict(runs_BT=rows["runs_BT"], chunk=s.chunk, dtype=c.run.dtype),
    )
    y_BTNH = (y_BTNH + x_BTNH * skip_N[None, None, :, None]) * jax.nn.silu(gate_BTNH)
    # A norm for each group's heads, so that groups need not wait for others. One group
    # has no dimension: beside one of size 1, XLA:CPU sums 20 times more slowly.
    grouped = y_BTNH.reshape(B, T, *([J] if J > 1 else []), -1)
    square = jnp.mean(jnp.square(grouped), axis=-1, keepdims=True)
    y_BTNH = (grouped * jax.lax.rsqrt(square + c.eps)).reshape(y_BTNH.shape)
    scale_NH = weight(self, "norm_scale", "NH", (N, H), nn.initializers.ones)
    y_BTNH = constrain(y_BTNH * scale_NH[None, None], "BTNH")
    out = dict(dtype=c.run.dtype, scale=c.layers**-0.5)
    return linear(self, "out", "BTNH,NHD->BTD", y_BTNH, (N, H, D), **out), last


def _recur(x_BTNH, log_decay_BTN, b_BTJM, c_BTJM, state_BNHM, **options):
  """(y_BTNH, state): a step for one token a row, chunks for more."""
  if x_BTNH.shape[1] > 1:
    return ssd.chunked(x_BTNH, log_decay_BTN, b_BTJM, c_BTJM, state_BNHM, **options)
  token = (x[:, 0] for x in (x_BTNH, log_decay_BTN, b_BTJM, c_BTJM))
  y_BNH, state_BNHM = ssd.step(*token, state_BNHM)
  return y_BNH[:, None], state_BNHM


def _dt_bias(key, shape, dtype):
  """Initial biases: softplus of them is 0.001 to 0.1, log-uniformly."""
  low, high = math.log(1e-3), math.log(1e-1)
  dt_N = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
  return dt_N + jnp.log(-jnp.expm1(-dt_N))


def _log_rate(key, shape, dtype):
  """Initial logarithms of rates that are uniform in 1 to 16."""
  return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, 16.0))


def shapes(c: Config, batch: int) -> dict:
  """Shapes of a layer's cache: its state, and the last inputs of its convolutions."""
  N, H = c.space.heads, c.space.head_size(c.width)
  J, M, Q = c.space.groups, c.space.state, c.space.taps - 1
  past = {"x_BQNH": (batch, Q, N, H)}
  past |= dict.fromkeys(("b_BQJM", "c_BQJM"), (batch, Q, J, M))
  return past | {"space_BNHM": (batch, N, H, M)}


class Block(nn.Module):
  """x += mixer(norm(x))."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, inputs, rows):
    """(x_BTD, state); `inputs` has "state" and "key", `rows` are `token_masks`."""
    c = self.config
    normed_BTD = Norm(kind="rms", eps=c.eps, name="norm")(x_BTD)
    y_BTD, state = Mixer(c, name="mixer")(normed_BTD, inputs["state"], rows)
    x_BTD += dropout(inputs["key"], y_BTD, c.run.dropout)
    return residual(self, "mixer", x_BTD), state


class Model(LanguageModel):
  """A Mamba-2."""

  config: Config
  traits = Traits(decodes=True, carries=True)

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width)
    self.blocks = Stack(block=Block, config=c, length=c.layers, run=c.run)
    self.norm = Norm(kind="rms", eps=c.eps)
    tied_to = self.embed if c.tied else None
    self.head = Readout(vocab=c.vocab, dtype=c.run.dtype, tied_to=tied_to)

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """Features: x_BTD and the cache.

    Of positions only -1 matters: padding, which leaves the state as it is. Every
    segment starts from an empty state.
    """
    c, rate, order_BT = self.config, self.config.run.dropout, None
    if segments_BT is not None and cache is not None:
      raise Mistake("segments_BT with a cache: decode one document a row instead")
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)
    if positions_BT is not None:
      # Padding goes to the end of its row, where no real token notices it, and back.
      order_BT = jnp.argsort(positions_BT < 0, axis=1, stable=True)
      tokens_BT = jnp.take_along_axis(tokens_BT, order_BT, axis=1)
    rows = token_masks(positions_BT, segments_BT, order_BT)

    x_BTD = dropout(first, self.embed(tokens_BT), rate)
    inputs = {"state": cache and cache.layers, "key": keys_L}
    x_BTD, layers = self.blocks(x_BTD, inputs, rows)
    if order_BT is not None:
      back_BT = jnp.argsort(order_BT, axis=1)
      x_BTD = jnp.take_along_axis(x_BTD, back_BT[..., None], axis=1)
    return Features(self.norm(x_BTD), cache and State(layers))

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    return self.head(x_BTD)

  def init_cache(self, batch: int, size: int) -> State:
    """The empty state, of constant memory: `size` has no effect."""
    del size
    c = self.config
    return State.empty(c.layers, shapes(c, batch), scan=c.run.scan)


def token_masks(positions_BT, segments_BT, order_BT):
  """{"real_BT", "ends_B", "runs_BT"} of tokens in the order `order_BT`, or None each.

  Real tokens come first in their row, before `ends_B`; `runs_BT` are numbers that grow
  where a new segment begins.
  """
  masks = {"real_BT": None, "ends_B": None, "runs_BT": None}
  if positions_BT is not None:
    ends_B = jnp.sum(positions_BT >= 0, axis=1)
    real_BT = jnp.arange(positions_BT.shape[1])[None] < ends_B[:, None]
    masks |= {"real_BT": real_BT, "ends_B": ends_B}
  if segments_BT is not None:
    if order_BT is not None:
      segments_BT = jnp.take_along_axis(segments_BT, order_BT, axis=1)
    new_BT = jnp.diff(segments_BT, axis=1, prepend=segments_BT[:, :1]) != 0
    masks["runs_BT"] = jnp.cumsum(new_BT, axis=1)
  return masks
