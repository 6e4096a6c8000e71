"""Recurrent language models: stacked LSTMs or GRUs, without attention.

LSTM: Zaremba et al. 2014, arXiv:1409.2329, whose small, medium and large models are
presets, dropout included (between layers, never from one token to the next). GRU:
arXiv:1406.1078. What differs: weights are normal with std 1/sqrt(fan_in), those from
state to state orthogonal, forget gates start open; embeddings may be tied
(arXiv:1608.05859). With data.rows="stream" every row goes on where that of the last
batch ended, its state with it, as Zaremba trains.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.models import Features, Traits
from lm.nn.depth import Run, Stack
from lm.nn.layers import Embedding, Readout, dropout, mask_padding
from lm.nn.recurrent import CELLS, Recurrence, State


@dataclass(frozen=True)
class Config:
  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 650  # D, of embeddings and states
  layers: int = 2  # L
  cell: str = "lstm"  # or "gru"
  tied: bool = True  # the readout is the embedding
  run: Run = field(default_factory=Run)

  def __post_init__(self):
    one_of("cell", self.cell, CELLS)
    positive(self, "vocab", "width", "layers")
    not_negative(self, "context")


PRESETS = {
  "lstm-tiny": dict(width=288, layers=2),
  "lstm-small": dict(width=200, layers=2, tied=False),
  "lstm-medium": dict(width=650, layers=2, tied=False, dropout=0.5),
  "lstm-large": dict(width=1500, layers=2, tied=False, dropout=0.65),
  "gru-tiny": dict(width=320, layers=2, cell="gru"),
}


class Block(nn.Module):
  """One layer, then dropout."""

  config: Config

  @nn.compact
  def __call__(self, x_TBD, inputs, marks):
    c = self.config
    cell = Recurrence(c.cell, c.run.dtype, name="cell")
    x_TBD, state = cell(x_TBD, inputs["state"], marks)
    return dropout(inputs["key"], x_TBD, c.run.dropout), state


class Model(nn.Module):
  config: Config
  traits = Traits(decodes=True, carries=True)

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.width, std=0.1)  # no norm will enlarge it
    self.blocks = Stack(Block, c, c.layers, c.run.scan, c.run.remat)
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

    x_BTD = dropout(first, self.embed(tokens_BT), c.run.dropout)
    x_TBD = constrain(jnp.swapaxes(x_BTD, 0, 1), "TBD")
    inputs = {"state": cache and cache.layers, "key": keys_L}
    x_TBD, layers = self.blocks(x_TBD, inputs, marks(positions_BT, segments_BT))
    cache = cache and State(layers)
    return Features(constrain(jnp.swapaxes(x_TBD, 0, 1), "BTD"), cache)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    c = self.config
    logits_BTV = self.embed.readout(x_BTD, c.run.dtype) if c.tied else self.head(x_BTD)
    return mask_padding(logits_BTV, c.vocab)

  def init_cache(self, batch: int, size: int) -> State:
    """The empty state; of constant memory, so that `size` is of no consequence."""
    del size
    c = self.config
    shapes = {name: (batch, c.width) for name in CELLS[c.cell].state}
    return State.empty(c.layers, shapes, scan=c.run.scan)


def marks(positions_BT, segments_BT):
  """Which tokens change the state and which start anew; see `Recurrence`."""
  real_TB, fresh_TB = None, None
  if positions_BT is not None:
    real_TB = positions_BT.T >= 0
  if segments_BT is not None:
    segments_TB = segments_BT.T
    fresh_TB = jnp.pad(segments_TB[1:] != segments_TB[:-1], ((1, 0), (0, 0)))
  return {"real": real_TB, "fresh": fresh_TB}
