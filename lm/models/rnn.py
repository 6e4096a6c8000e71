"""Recurrent language models: stacked LSTMs or GRUs, without attention.

LSTM: Zaremba et al. 2014, arXiv:1409.2329, whose small, medium and large models are
presets, dropout included (between layers, never from one token to the next). GRU:
arXiv:1406.1078. What differs: weights are normal with std 1/sqrt(fan_in), those from
state to state orthogonal, forget gates start open; embeddings may be tied
(arXiv:1608.05859). When rows are streams of text, every row continues that of the last
batch, from the same state, as Zaremba trains.

Read first: nn/recurrent.py (Recurrence), nn/state.py (State), nn/layers.py (Embedding,
Readout), nn/depth.py (Stack).
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain
from lm.models import Features, LanguageModel, Traits
from lm.nn.depth import Run, Stack
from lm.nn.layers import Embedding, Readout, dropout, dropout_key, layer_keys
from lm.nn.recurrent import CELLS, Recurrence
from lm.nn.state import State
from lm.nn.task_heads import LAST_PARTS, LastClassifier, LastHead, require_head


@dataclass(frozen=True)
class Config:
  """The sizes of a recurrent model."""

  vocab: int  # tokens; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 650  # D, of embeddings and states
  layers: int = 2  # L: recurrent layers
  cell: str = "lstm"  # or "gru"
  task: LastHead = field(default_factory=LastHead)
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
  """x = dropout(cell(x)): one recurrent layer."""

  config: Config

  @nn.compact
  def __call__(self, x_TBD, inputs, rows):
    """(x_TBD, state); `inputs` has "state" and "key", `rows` are `token_masks`."""
    c = self.config
    cell = Recurrence(cell=c.cell, dtype=c.run.dtype, name="cell")
    x_TBD, state = cell(x_TBD, inputs["state"], rows)
    self.sow("intermediates", "cell_output_TBD", x_TBD)
    return dropout(inputs["key"], x_TBD, c.run.dropout), state


class Model(LanguageModel):
  """A stack of LSTMs or GRUs."""

  config: Config
  traits = Traits(decodes=True, carries=True, head=LAST_PARTS)

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width, std=0.1)  # no norm enlarges it
    self.blocks = Stack(block=Block, config=c, length=c.layers, run=c.run)
    if c.task.head == "classes":
      self.classifier = LastClassifier(classes=c.task.classes, dtype=c.run.dtype)
    else:
      tied_to = self.embed if c.task.tied else None
      self.head = Readout(vocab=c.vocab, dtype=c.run.dtype, tied_to=tied_to)

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """Features: x_BTD and the cache.

    Of positions only -1 matters: padding, which leaves the state as it is. Every
    segment starts from an empty state.
    """
    c, rate = self.config, self.config.run.dropout
    if segments_BT is not None and cache is not None:
      raise Mistake("segments_BT with a cache: decode one document a row instead")
    first, keys_L = layer_keys(dropout_key(self, rate, train=train), c.layers)

    x_BTD = dropout(first, self.embed(tokens_BT), rate)
    x_TBD = constrain(jnp.swapaxes(x_BTD, 0, 1), "TBD")
    inputs = {"state": cache and cache.layers, "key": keys_L}
    rows = token_masks(positions_BT, segments_BT)
    x_TBD, layers = self.blocks(x_TBD, inputs, rows)
    cache = cache and State(layers)
    return Features(constrain(jnp.swapaxes(x_TBD, 0, 1), "BTD"), cache)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    require_head(self, "tokens")
    return self.head(x_BTD)

  def classify(self, x_BTD, segments_BT=None, *, num: int = 0):
    """logits_BC of the row's class, or logits_BPC of `num` texts: by the last token."""
    require_head(self, "classes")
    logits_BPC = self.classifier(x_BTD, segments_BT, num)
    return logits_BPC if num else logits_BPC[:, 0]

  def init_cache(self, batch: int, size: int) -> State:
    """The empty state, of constant memory: `size` has no effect."""
    del size
    c = self.config
    shapes = {name: (batch, c.width) for name in CELLS[c.cell].state}
    return State.empty(c.layers, shapes, scan=c.run.scan)


def token_masks(positions_BT, segments_BT):
  """{"real", "fresh"}: booleans TB, or None when all tokens are alike.

  Tokens that are not real leave the state as it is; it is emptied before fresh ones.
  """
  real_TB, fresh_TB = None, None
  if positions_BT is not None:
    real_TB = positions_BT.T >= 0
  if segments_BT is not None:
    segments_TB = segments_BT.T
    fresh_TB = jnp.pad(segments_TB[1:] != segments_TB[:-1], ((1, 0), (0, 0)))
  return {"real": real_TB, "fresh": fresh_TB}
