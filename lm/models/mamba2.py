"""Mamba-2: a state space model whose decays depend on the token; no attention.

Dao and Gu 2024, arXiv:2405.21060; sizes are those of its released models. Training and
reading a prompt work on chunks of the row at once, one further token is one step of the
same recurrence (lm/nn/ssd.py): memory for decoding does not grow with the row.
What differs: the input projection is five matmuls and the convolution three, which
split over devices by heads; weights start from a normal with std 1/sqrt(fan_in), those
that write into the residual stream divided by sqrt(L).
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import constrain, weight
from lm.models import Features, Traits
from lm.nn import ssd
from lm.nn.depth import Run, Stack
from lm.nn.layers import Embedding, Norm, Readout, dropout, mask_padding
from lm.nn.linear import linear
from lm.nn.recurrent import State


@dataclass(frozen=True)
class Sizes:
  """The state space of a block. M, G and R are explained in lm/nn/ssd.py."""

  heads: int = 24  # N
  expand: int = 2  # N H = expand D
  state: int = 128  # M
  groups: int = 1  # G, of heads that share b and c
  taps: int = 4  # tokens that the short convolution sees
  chunk: int = 256  # tokens in one matmul; changes the speed, not the numbers

  def __post_init__(self):
    positive(self, *vars(self))

  def head_size(self, width: int) -> int:
    """H; Mistake when the sizes do not fit together."""
    if self.expand * width % self.heads:
      raise Mistake(
        f"heads={self.heads} does not divide expand * width={self.expand * width}"
      )
    if self.heads % self.groups:
      raise Mistake(f"groups={self.groups} does not divide heads={self.heads}")
    return self.expand * width // self.heads


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 768  # D
  layers: int = 24  # L
  eps: float = 1e-5  # of the norms
  tied: bool = True  # the readout is the embedding
  space: Sizes = field(default_factory=Sizes)
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    positive(self, "vocab", "width", "layers", "eps")
    not_negative(self, "context")
    self.space.head_size(self.width)


def _released(width, layers):
  return dict(width=width, layers=layers, heads=width // 32)  # heads of size 64


PRESETS = {
  "mamba2-tiny": dict(width=192, layers=6, heads=6, state=64, chunk=64),
  "mamba2-130m": _released(768, 24),
  "mamba2-370m": _released(1024, 48),
  "mamba2-780m": _released(1536, 48),
  "mamba2-1.3b": _released(2048, 48),
  "mamba2-2.7b": _released(2560, 64),
}


class Convolution(nn.Module):
  """Every channel summed over the last tokens with weights of its own, then SiLU.

  `letters` are those of the two dimensions of channels, here N and H in any case.
  """

  letters: str
  taps: int

  @nn.compact
  def __call__(self, x_BTNH, before_BPNH, runs_BT, ends_B):
    """(y_BTNH, the last P = taps - 1 inputs); `before_BPNH` are those before the row.

    Of a row only the tokens up to `ends_B` are there (None: all). Tokens of other runs
    than its own a token does not see.
    """
    (_, T, N, H), P = x_BTNH.shape, self.taps - 1
    shape = (self.taps, N, H)
    std = nn.initializers.normal(self.taps**-0.5)
    w_WNH = weight(self, "taps", f"W{self.letters}", shape, std)
    b_NH = weight(self, "bias", self.letters, (N, H), nn.initializers.zeros)
    inputs_BSNH = jnp.concatenate([before_BPNH, x_BTNH], axis=1)
    y_BTNH = b_NH[None, None] + x_BTNH * w_WNH[None, -1:]
    for back in range(1, self.taps):
      past_BTNH = jax.lax.slice_in_dim(inputs_BSNH, P - back, P - back + T, axis=1)
      if runs_BT is not None:
        then_BT = jnp.pad(runs_BT, ((0, 0), (back, 0)), constant_values=-1)[:, :T]
        past_BTNH = jnp.where((then_BT == runs_BT)[..., None, None], past_BTNH, 0)
      y_BTNH += past_BTNH * w_WNH[None, P - back][:, None]
    if ends_B is None:
      last_BPNH = inputs_BSNH[:, T:]
    else:
      at_BP = ends_B[:, None] + jnp.arange(P)[None]
      last_BPNH = jnp.take_along_axis(inputs_BSNH, at_BP[..., None, None], axis=1)
    return jax.nn.silu(y_BTNH), last_BPNH


class Mixer(nn.Module):
  """The state space layer of one block: x_BTD, and its state."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, state, marks):
    c, s = self.config, self.config.space
    B, T, D = x_BTD.shape
    N, H, G, M = s.heads, s.head_size(D), s.groups, s.state
    x_BTD = x_BTD.astype(c.run.dtype)
    into = lambda name, letters, *shape: linear(
      self, name, f"BTD,D{letters}->BT{letters}", x_BTD, (D, *shape), dtype=c.run.dtype
    )
    gate_BTNH = constrain(into("gate", "NH", N, H), "BTNH")
    x_BTNH = constrain(into("x", "NH", N, H), "BTNH")
    b_BTGM, c_BTGM = into("b", "GM", G, M), into("c", "GM", G, M)
    bias_N = weight(self, "dt_bias", "N", (N,), _dt_bias)
    dt_BTN = jax.nn.softplus(into("dt", "N", N) + bias_N[None, None])
    if marks["real"] is not None:  # no time passes at padding
      dt_BTN = jnp.where(marks["real"][..., None], dt_BTN, 0)
    rate_N = -jnp.exp(weight(self, "log_rate", "N", (N,), _log_rate))
    skip_N = weight(self, "skip", "N", (N,), nn.initializers.ones)

    if state is None:
      empty = lambda name, shape: jnp.zeros(shape, jnp.float32)
      state = {name: empty(name, shape) for name, shape in shapes(c, B).items()}
    convolved, last = {}, {}
    inputs = {"x_BPNH": x_BTNH, "b_BPGM": b_BTGM, "c_BPGM": c_BTGM}
    for name, channels in inputs.items():
      convolve = Convolution(name[-2:], s.taps, name=f"conv_{name[0]}")
      convolved[name], last[name] = convolve(
        channels, state[name], marks["runs"], marks["ends"]
      )
    x_BTNH, b_BTGM, c_BTGM = convolved.values()
    y_BTNH, last["space_BNHM"] = _recur(
      x_BTNH * dt_BTN[..., None],
      dt_BTN * rate_N[None, None],
      b_BTGM,
      c_BTGM,
      state["space_BNHM"],
      **dict(runs_BT=marks["runs"], chunk=s.chunk, dtype=c.run.dtype),
    )
    y_BTNH = (y_BTNH + x_BTNH * skip_N[None, None, :, None]) * jax.nn.silu(gate_BTNH)
    # The norm is over the heads of a group, so that groups need not wait for others.
    # One group is no dimension: beside one of size 1, XLA:CPU adds up 20 times slower.
    grouped = y_BTNH.reshape(B, T, *([G] if G > 1 else []), -1)
    square = jnp.mean(jnp.square(grouped), axis=-1, keepdims=True)
    y_BTNH = (grouped * jax.lax.rsqrt(square + c.eps)).reshape(y_BTNH.shape)
    scale_NH = weight(self, "norm_scale", "NH", (N, H), nn.initializers.ones)
    y_BTNH = constrain(y_BTNH * scale_NH[None, None], "BTNH")
    out = dict(dtype=c.run.dtype, scale=c.layers**-0.5)
    return linear(self, "out", "BTNH,NHD->BTD", y_BTNH, (N, H, D), **out), last


def _recur(x_BTNH, log_decay_BTN, b_BTGM, c_BTGM, state_BNHM, **how):
  """(y_BTNH, state): a step for one token a row, chunks for more."""
  if x_BTNH.shape[1] > 1:
    return ssd.chunked(x_BTNH, log_decay_BTN, b_BTGM, c_BTGM, state_BNHM, **how)
  one = (x[:, 0] for x in (x_BTNH, log_decay_BTN, b_BTGM, c_BTGM))
  y_BNH, state_BNHM = ssd.step(*one, state_BNHM)
  return y_BNH[:, None], state_BNHM


def _dt_bias(key, shape, dtype):
  """What softplus makes steps of 0.001 to 0.1, evenly in their logarithm."""
  low, high = math.log(1e-3), math.log(1e-1)
  dt_N = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
  return dt_N + jnp.log(-jnp.expm1(-dt_N))


def _log_rate(key, shape, dtype):
  return jnp.log(jax.random.uniform(key, shape, dtype, 1.0, 16.0))


def shapes(c: Config, batch: int) -> dict:
  """What a layer remembers: its state, and the last inputs of its convolutions."""
  N, H = c.space.heads, c.space.head_size(c.width)
  G, M, P = c.space.groups, c.space.state, c.space.taps - 1
  past = {"x_BPNH": (batch, P, N, H)} | dict.fromkeys(
    ("b_BPGM", "c_BPGM"), (batch, P, G, M)
  )
  return past | {"space_BNHM": (batch, N, H, M)}


class Block(nn.Module):
  """A mixer, added to the residual stream."""

  config: Config

  @nn.compact
  def __call__(self, x_BTD, inputs, marks):
    c = self.config
    normed_BTD = Norm("rms", c.eps, name="norm")(x_BTD)
    y_BTD, state = Mixer(c, name="mixer")(normed_BTD, inputs["state"], marks)
    y_BTD = dropout(inputs["key"], y_BTD, c.run.dropout)
    return constrain(x_BTD + y_BTD, "BTD"), state


class Model(nn.Module):
  config: Config
  traits = Traits(decodes=True, carries=True)

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.width)
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    self.norm = Norm("rms", c.eps)
    if not c.tied:
      self.head = Readout(c.vocab, c.run.dtype)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32, and the cache that came in, these tokens later."""
    x_BTD, cache, _ = self.features(tokens_BT, **how)
    return self.readout(x_BTD)[..., : self.config.vocab], cache

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """x_BTD before the readout, and the cache.

    Of positions only this matters: -1 is padding, which leaves the state alone. Every
    segment starts from an empty state.
    """
    c = self.config
    if segments_BT is not None and cache is not None:
      raise Mistake("segments_BT with a cache: decode one document a row instead")
    key = self.make_rng("dropout") if train and c.run.dropout else None
    first, keys_L = None, None
    if key is not None:
      first, rest = jax.random.split(key)
      keys_L = jax.random.split(rest, c.layers)
    marks, order_BT = {"real": None, "runs": None, "ends": None}, None
    if positions_BT is not None:
      # Padding goes to the end of its row, behind what could notice it, and comes back.
      order_BT = jnp.argsort(positions_BT < 0, axis=1, stable=True)
      tokens_BT = jnp.take_along_axis(tokens_BT, order_BT, axis=1)
      ends_B = jnp.sum(positions_BT >= 0, axis=1)
      real_BT = jnp.arange(tokens_BT.shape[1])[None] < ends_B[:, None]
      marks |= {"real": real_BT, "ends": ends_B}
    if segments_BT is not None:
      if order_BT is not None:
        segments_BT = jnp.take_along_axis(segments_BT, order_BT, axis=1)
      new_BT = jnp.diff(segments_BT, axis=1, prepend=segments_BT[:, :1]) != 0
      marks["runs"] = jnp.cumsum(new_BT, axis=1)

    x_BTD = dropout(first, self.embed(tokens_BT), c.run.dropout)
    inputs = {"state": cache and cache.layers, "key": keys_L}
    x_BTD, layers = self.blocks(x_BTD, inputs, marks)
    if order_BT is not None:
      back_BT = jnp.argsort(order_BT, axis=1)
      x_BTD = jnp.take_along_axis(x_BTD, back_BT[..., None], axis=1)
    return Features(self.norm(x_BTD), cache and State(layers))

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    logits_BTV = self.embed.readout(x_BTD, c.run.dtype) if c.tied else self.head(x_BTD)
    return mask_padding(logits_BTV, c.vocab)

  def init_cache(self, batch: int, size: int) -> State:
    """The empty state; of constant memory, so that `size` is of no consequence."""
    del size
    c = self.config
    return State.empty(c.layers, shapes(c, batch), scan=c.run.scan)
