"""Fakes that run in milliseconds: a table as a model, bytes as a tokenizer."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lm.models import Features, Traits
from lm.nn.attention.cache import write_columns
from lm.nn.depth import Run

TRACES = []  # an entry for each trace of a fake model, to count compilations


@struct.dataclass
class FakeCache:
  """Cache of the tokens themselves, in the slots of a real model's keys and values."""

  rewinds = True

  tokens_BS: jax.Array
  positions_BS: jax.Array
  index_B: jax.Array

  def take(self, rows_B):
    return jax.tree.map(lambda x: x[rows_B], self)

  def put(self, row, one):
    emptied, size = self.ended(self.index_B.at[row].set(0)), one.tokens_BS.shape[1]
    return FakeCache(
      emptied.tokens_BS.at[row, :size].set(one.tokens_BS[0]),
      emptied.positions_BS.at[row, :size].set(one.positions_BS[0]),
      emptied.index_B.at[row].set(one.index_B[0]),
    )

  def as_dtype(self, dtype):
    return self

  def ended(self, lengths_B):
    is_kept_BS = jnp.arange(self.tokens_BS.shape[1])[None] < lengths_B[:, None]
    positions_BS = jnp.where(is_kept_BS, self.positions_BS, -1)
    return self.replace(positions_BS=positions_BS, index_B=jnp.asarray(lengths_B))


@dataclass(frozen=True)
class FakeConfig:
  vocab: int = 11
  context: int = 0
  run: Run = field(default_factory=Run)


@dataclass(frozen=True)
class TableModel:
  """Model whose logits depend on every token so far and on its position.

  Logits are sums of whole numbers, so no order of summation changes a bit; a token that
  is attended to and should not be (padding, another row's) changes all of them.
  """

  config: FakeConfig = field(default_factory=FakeConfig)
  traits = Traits(decodes=True)

  def init(self, seed=0, scale=4):
    V = self.config.vocab
    rng = np.random.default_rng(seed)
    table_VV = rng.integers(-9, 10, (V, V)) * scale
    return {"table_VV": jnp.asarray(table_VV, jnp.float32)}

  def init_cache(self, batch, size):
    empty_BS = jnp.full((batch, size), -1, jnp.int32)
    zeros = lambda *shape: jnp.zeros(shape, jnp.int32)
    return FakeCache(zeros(batch, size), empty_BS, zeros(batch))

  def apply(self, variables, x, method=None, **options):
    TRACES.append((method, jnp.shape(x)))
    if method == "readout":
      return x
    x_BTV, cache = self._features(variables["params"]["table_VV"], x, **options)
    return Features(x_BTV, cache)

  def _features(self, table_VV, tokens_BT, *, positions_BT=None, cache=None):
    B, T = tokens_BT.shape
    if positions_BT is None:
      positions_BT = jnp.broadcast_to(jnp.arange(T), (B, T))
    tokens_BS, places_BS = tokens_BT, positions_BT
    if cache is not None:
      update, index_B = write_columns, cache.index_B
      tokens_BS = update(cache.tokens_BS, tokens_BT, index_B)
      places_BS = update(cache.positions_BS, positions_BT, index_B)
      cache = FakeCache(tokens_BS, places_BS, index_B + T)
    ahead_BTS = positions_BT[:, :, None] - places_BS[:, None]
    real_BTS = (places_BS[:, None] >= 0) & (ahead_BTS >= 0)
    # The newest token counts most: 1, 1/2, 1/4, then 1/8 for all the rest.
    weight_BTS = jnp.where(real_BTS, 0.5 ** jnp.clip(ahead_BTS, 0, 3), 0)
    votes_BSV = jnp.take(table_VV, tokens_BS, axis=0)
    return jnp.einsum("BTS,BSV->BTV", weight_BTS, votes_BSV), cache


@dataclass(frozen=True)
class UniformModel(TableModel):
  """Model that gives every token the same probability."""

  def init(self, seed=0, scale=0):
    return super().init(seed, 0)


@dataclass(frozen=True)
class ScriptModel(TableModel):
  """Model that writes `script_L[position]` after the token at `position`."""

  def init(self, script_L):
    return {"script_L": jnp.asarray(script_L, jnp.int32)}

  def apply(self, variables, x, method=None, **options):
    if method == "readout":
      return x
    script_L = variables["params"]["script_L"]
    positions_BT = options["positions_BT"]
    next_BT = script_L[jnp.clip(positions_BT, 0, script_L.size - 1)]
    x_BTV = 99.0 * jax.nn.one_hot(next_BT, self.config.vocab)
    return Features(x_BTV, options["cache"])


@dataclass(frozen=True)
class ByteTokenizer:
  """Tokenizer whose ids are the bytes; 256 is bos, 257 eos, 258 padding."""

  size: int = 259
  bos: int = 256
  eos: int = 257
  pad: int = 258
  chat_template = None
  decoding = MappingProxyType({})
  languages = MappingProxyType({})

  @property
  def is_token_V(self):
    return np.ones(self.size, bool)

  @property
  def bytes_V(self):
    return np.array([1] * 256 + [0] * 3, np.int32)

  def encode(self, text):
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)

  prompt = encode

  @property
  def stops(self):
    return frozenset([self.eos])

  def decode_bytes(self, ids):
    return bytes(int(i) for i in ids if i < 256)

  def decode(self, ids):
    return self.decode_bytes(ids).decode(errors="replace")


def small(model_class=TableModel, **config):
  return model_class(replace(FakeConfig(), **config))
