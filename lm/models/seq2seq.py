"""Recurrent encoder and decoder with attention between them.

Sutskever et al. 2014, arXiv:1409.3215: the decoder begins in the state in which the
encoder ended. Luong et al. 2015, arXiv:1508.04025: global attention by their "general"
score, after the last layer and not fed back, so that all tokens of a target are
computed at once (Bahdanau et al. 2014, arXiv:1409.0473, attends before). What differs:
source and target share one table of embeddings. M is what a place of the source is
remembered by, F the attentional state that is read out.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.models import SOURCE, Features, Traits
from lm.nn.attention.masks import MASKED
from lm.nn.depth import Run, Stack
from lm.nn.layers import Embedding, Readout, dropout, mask_padding
from lm.nn.linear import dot, linear
from lm.nn.recurrent import CELLS, Recurrence, State


@dataclass(frozen=True)
class Config:
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
  """What decoding needs: the decoder's state and, once read, the encoder's outputs."""

  state: State
  source_BSM: jax.Array
  real_BS: jax.Array  # False where the source is padding

  def take(self, rows_B):
    """The rows with these indices, for beams."""
    some = lambda x: jnp.take(x, rows_B, axis=0)
    return Memory(self.state.take(rows_B), some(self.source_BSM), some(self.real_BS))


class Block(nn.Module):
  """One layer of the encoder or of the decoder, then dropout."""

  config: Config

  @nn.compact
  def __call__(self, x_TBD, inputs, marks):
    c = self.config
    cell = Recurrence(c.cell, c.run.dtype, name="cell")
    x_TBD, state = cell(x_TBD, inputs["state"], marks)
    return dropout(inputs["key"], x_TBD, c.run.dropout), state


class Attention(nn.Module):
  """x_BTF: tanh of every state and of what it reads of the source."""

  dtype: str

  @nn.compact
  def __call__(self, x_BTD, source_BSM, real_BS):
    D, M = x_BTD.shape[-1], source_BSM.shape[-1]
    into = lambda name, equation, x, shape: linear(
      self, name, equation, x, shape, dtype=self.dtype
    )
    q_BTM = into("score", "BTD,DM->BTM", x_BTD, (D, M))
    scores_BTS = dot("BTM,BSM->BTS", q_BTM, source_BSM, self.dtype)
    scores_BTS = jnp.where(real_BS[:, None], scores_BTS, MASKED)
    probs_BTS = jax.nn.softmax(scores_BTS)
    if self.is_mutable_collection("intermediates"):
      self.sow("intermediates", "probs_BTS", probs_BTS)
    read_BTM = dot("BTS,BSM->BTM", probs_BTS, source_BSM, self.dtype)
    x_BTF = into("state", "BTD,DF->BTF", x_BTD, (D, D))
    return jnp.tanh(x_BTF + into("read", "BTM,MF->BTF", read_BTM, (M, D)))


class Model(nn.Module):
  config: Config
  traits = Traits(
    decodes=True, source=True, packs=False, reads=("positions_BT", *SOURCE)
  )

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.width, std=0.1)  # no norm will enlarge it
    self.source_blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
    self.attention = Attention(c.run.dtype)
    if not c.tied:
      self.head = Readout(c.vocab, c.run.dtype)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32, and the cache that came in, these tokens later."""
    x_BTD, cache, _ = self.features(tokens_BT, **how)
    return self.readout(x_BTD)[..., : self.config.vocab], cache

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
    """x_BTD before the readout, and the cache.

    A source comes with the first tokens; the cache keeps what decoding needs of it.
    `source_segments_BS` is 0 where the source is padding, and positions_BT are -1 where
    the tokens are.
    """
    if segments_BT is not None:
      raise Mistake("segments_BT: a recurrent seq2seq takes one document a row")
    if source_BS is None and self.is_initializing():
      source_BS = tokens_BT
    if source_BS is None and (cache is None or not cache.real_BS.size):
      raise Mistake("a seq2seq model reads a source: give source_BS")
    c, keys = self.config, (None, None, None)
    if train and c.run.dropout:
      keys = jax.random.split(self.make_rng("dropout"), 3)
    if source_BS is not None:
      memory = self.encode(source_BS, source_segments_BS, keys[0])
    else:
      memory = cache
    real_BT = None if positions_BT is None else positions_BT >= 0
    x_BTD, layers = self._run(
      self.blocks, tokens_BT, real_BT, memory.state.layers, keys[1]
    )
    x_BTD = self.attention(x_BTD, memory.source_BSM, memory.real_BS)
    x_BTD = dropout(keys[2], constrain(x_BTD, "BTD"), c.run.dropout)
    return Features(x_BTD, cache and memory.replace(state=State(layers)))

  def encode(self, source_BS, source_segments_BS=None, key=None) -> Memory:
    """What the decoder needs of a source."""
    real_BS = jnp.ones(source_BS.shape, bool)
    if source_segments_BS is not None:
      real_BS = source_segments_BS > 0
    x_BSM, layers = self._run(self.source_blocks, source_BS, real_BS, None, key)
    return Memory(State(layers), x_BSM, real_BS)

  def _run(self, blocks, tokens_BT, real_BT, state, key):
    """x_BTD of a stack of layers, and their last states."""
    c, first, keys_L = self.config, None, None
    if key is not None:
      first, rest = jax.random.split(key)
      keys_L = jax.random.split(rest, c.layers)
    x_BTD = dropout(first, self.embed(tokens_BT), c.run.dropout)
    x_TBD = constrain(jnp.swapaxes(x_BTD, 0, 1), "TBD")
    marks = {"real": None if real_BT is None else real_BT.T, "fresh": None}
    x_TBD, layers = blocks(x_TBD, {"state": state, "key": keys_L}, marks)
    return constrain(jnp.swapaxes(x_TBD, 0, 1), "BTD"), layers

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    logits_BTV = self.embed.readout(x_BTD, c.run.dtype) if c.tied else self.head(x_BTD)
    return mask_padding(logits_BTV, c.vocab)

  def init_cache(self, batch: int, size: int) -> Memory:
    """An empty cache; `size` is of no consequence, only that of a source is."""
    del size
    c = self.config
    shapes = {name: (batch, c.width) for name in CELLS[c.cell].state}
    state = State.empty(c.layers, shapes, scan=c.run.scan)
    return Memory(state, jnp.zeros((batch, 0, c.width)), jnp.zeros((batch, 0), bool))
