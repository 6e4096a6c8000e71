"""Recurrent encoder and decoder with attention between them.

Sutskever et al. 2014, arXiv:1409.3215: the decoder begins in the state in which the
encoder ended. Luong et al. 2015, arXiv:1508.04025: global attention by their "general"
score, after the last layer and not fed back, so that all tokens of a target are
computed at once (Bahdanau et al. 2014, arXiv:1409.0473, attends before). What differs:
source and target share one table of embeddings. In names here A is the width of the
encoder's outputs, and F that of the attentional state that is read out.

Read first: nn/recurrent.py (Recurrence), nn/state.py (State), nn/layers.py (Embedding,
Readout), nn/depth.py (Stack).
"""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.models import SOURCE, Features, LanguageModel, Traits
from lm.nn.attention.masks import MASKED
from lm.nn.depth import Run, Stack
from lm.nn.layers import (
  Embedding,
  Readout,
  dropout,
  dropout_key,
  layer_keys,
  split_key,
)
from lm.nn.linear import dot, linear
from lm.nn.recurrent import CELLS, Recurrence
from lm.nn.state import State


@dataclass(frozen=True)
class Config:
  """The sizes of a recurrent encoder and decoder."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest source and the longest target; 0 means no limit
  width: int = 1000  # D, of embeddings and states
  layers: int = 4  # L, of the encoder and of the decoder
  cell: str = "lstm"  # or "gru"
  tied: bool = True  # the readout is the embedding
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    one_of("cell", self.cell, CELLS)
    positive(self, "vocab", "width", "layers")
    not_negative(self, "context")


PRESETS = {
  "lstm-attention-tiny": dict(width=256, layers=1),
  "lstm-attention": dict(width=1000, layers=4, tied=False, dropout=0.2),  # Luong's
}


@struct.dataclass
class Memory:
  """The cache: the decoder's state and, once a source was read, the encoder's outputs.

  Before that the source has size 0.
  """

  rewinds: ClassVar[bool] = False

  state: State
  source_BSA: jax.Array
  real_BS: jax.Array  # False where the source is padding

  def take(self, rows_R):
    """The rows with these indices, for beams."""
    take = lambda x: jnp.take(x, rows_R, axis=0)
    return Memory(self.state.take(rows_R), take(self.source_BSA), take(self.real_BS))

  def put(self, row, one: "Memory"):
    """Returns the cache with the only row of `one`, whose source may be shorter."""
    rest = self.real_BS.shape[1] - one.real_BS.shape[1]
    real_1S = jnp.pad(one.real_BS, ((0, 0), (0, rest)))
    source_BSA = jax.lax.dynamic_update_slice(
      self.source_BSA, one.source_BSA, (row, 0, 0)
    )
    real_BS = self.real_BS.at[row].set(real_1S[0])
    return Memory(self.state.put(row, one.state), source_BSA, real_BS)

  def as_dtype(self, dtype):
    """Returns the cache itself: its state adds up over all tokens."""
    del dtype
    return self

  def ended(self, lengths_B):
    """Returns the cache itself: padding behind the tokens has not changed it."""
    del lengths_B
    return self


class Block(nn.Module):
  """x = dropout(cell(x)): one layer of the encoder or of the decoder."""

  config: Config

  @nn.compact
  def __call__(self, x_TBD, inputs, rows):
    """(x_TBD, state); `inputs` has "state" and "key", `rows` masks of `Recurrence`."""
    c = self.config
    cell = Recurrence(cell=c.cell, dtype=c.run.dtype, name="cell")
    x_TBD, state = cell(x_TBD, inputs["state"], rows)
    self.sow("intermediates", "cell_output_TBD", x_TBD)
    return dropout(inputs["key"], x_TBD, c.run.dropout), state


class Attention(nn.Module, kw_only=True):
  """x_BTF = tanh(W_state x + W_read read), with read_BTA = softmax(x W_score s) s.

  s are the encoder's outputs (arXiv:1508.04025, equations 5, 7 and 8, "general").
  """

  dtype: str

  @nn.compact
  def __call__(self, x_BTD, source_BSA, real_BS):
    D, A = x_BTD.shape[-1], source_BSA.shape[-1]
    options = dict(dtype=self.dtype)
    q_BTA = linear(self, "score", "BTD,DA->BTA", x_BTD, (D, A), **options)
    scores_BTS = dot("BTA,BSA->BTS", q_BTA, source_BSA, self.dtype)
    scores_BTS = jnp.where(real_BS[:, None], scores_BTS, MASKED)
    probs_BTS = jax.nn.softmax(scores_BTS)
    self.sow("intermediates", "probs_BTS", probs_BTS)
    read_BTA = dot("BTS,BSA->BTA", probs_BTS, source_BSA, self.dtype)
    x_BTF = linear(self, "state", "BTD,DF->BTF", x_BTD, (D, D), **options)
    y_BTF = linear(self, "read", "BTA,AF->BTF", read_BTA, (A, D), **options)
    return jnp.tanh(x_BTF + y_BTF)


class Model(LanguageModel):
  """A recurrent encoder and decoder."""

  config: Config
  traits = Traits(
    decodes=True, source=True, packs=False, reads=("positions_BT", *SOURCE)
  )

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width, std=0.1)  # no norm enlarges it
    stack = dict(block=Block, config=c, length=c.layers, run=c.run)
    self.source_blocks, self.blocks = Stack(**stack), Stack(**stack)
    self.attention = Attention(dtype=c.run.dtype)
    tied_to = self.embed if c.tied else None
    self.head = Readout(vocab=c.vocab, dtype=c.run.dtype, tied_to=tied_to)

  def features(
    self,
    tokens_BT,
    *,
    source_BS=None,
    source_segments_BS=None,
    positions_BT=None,
    segments_BT=None,
    cache=None,
    train=False,
  ):
    """Features: x_BTD and the cache.

    A source comes with the first tokens; the cache keeps what decoding needs of it.
    `source_segments_BS` is 0 where the source is padding, and positions_BT are -1 where
    the tokens are. Raises Mistake for segments_BT, and without a source.
    """
    if segments_BT is not None:
      raise Mistake("segments_BT: a recurrent seq2seq takes one document a row")
    is_cached = cache is not None and cache.real_BS.size > 0
    source_BS = self.source_to_read(source_BS, tokens_BT, is_cached=is_cached)
    c, rate = self.config, self.config.run.dropout
    keys = split_key(dropout_key(self, rate, train=train), 3)
    if source_BS is not None:
      memory = self.encode(source_BS, source_segments_BS, keys[0])
    else:
      memory = cache
    real_BT = None if positions_BT is None else positions_BT >= 0
    state = memory.state.layers
    x_BTD, layers = self._run(self.blocks, tokens_BT, real_BT, state, keys[1])
    x_BTD = self.attention(x_BTD, memory.source_BSA, memory.real_BS)
    x_BTD = dropout(keys[2], constrain(x_BTD, "BTD"), c.run.dropout)
    return Features(x_BTD, cache and memory.replace(state=State(layers)))

  def encode(self, source_BS, source_segments_BS=None, key=None) -> Memory:
    """Returns the encoder's last states and outputs, which the decoder reads."""
    real_BS = jnp.ones(source_BS.shape, bool)
    if source_segments_BS is not None:
      real_BS = source_segments_BS > 0
    x_BSA, layers = self._run(self.source_blocks, source_BS, real_BS, None, key)
    return Memory(State(layers), x_BSA, real_BS)

  def _run(self, blocks, tokens_BT, real_BT, state, key):
    """Returns (x_BTD of a stack of layers, their last states)."""
    c = self.config
    first, keys_L = layer_keys(key, c.layers)
    x_BTD = dropout(first, self.embed(tokens_BT), c.run.dropout)
    x_TBD = constrain(jnp.swapaxes(x_BTD, 0, 1), "TBD")
    rows = {"real": None if real_BT is None else real_BT.T, "fresh": None}
    x_TBD, layers = blocks(x_TBD, {"state": state, "key": keys_L}, rows)
    return constrain(jnp.swapaxes(x_TBD, 0, 1), "BTD"), layers

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    return self.head(x_BTD)

  def init_cache(self, batch: int, size: int) -> Memory:
    """Returns an empty cache; `size` has no effect, only the size of the source has."""
    del size
    c = self.config
    shapes = {name: (batch, c.width) for name in CELLS[c.cell].state}
    state = State.empty(c.layers, shapes, scan=c.run.scan)
    return Memory(state, jnp.zeros((batch, 0, c.width)), jnp.zeros((batch, 0), bool))
