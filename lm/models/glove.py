"""GloVe: word vectors whose products are the logarithms of co-occurrence counts.

Pennington et al. 2014, https://aclanthology.org/D14-1162. Every word has a vector and a
bias as a centre, and others as a neighbour; its vector is the sum of the two. Trained
by the objective `glove` on the cells of lm.data.rows.cooccurrence. What differs: an
update is that of the mean of a batch.

Read first: nn/layers.py (Embedding).
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.letters import weight
from lm.models import Features, LanguageModel, Traits
from lm.nn.depth import Run
from lm.nn.layers import Embedding, dropout, dropout_key, mask_padding, padded
from lm.nn.linear import dense, take


@dataclass(frozen=True)
class Config:
  """The size of the vectors."""

  vocab: int  # words; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 50  # D
  run: Run = field(default_factory=Run)  # there is no depth to scan or to recompute

  def __post_init__(self):
    positive(self, "vocab", "width")
    not_negative(self, "context")


PRESETS = {
  "glove-50": dict(width=50),
  "glove-300": dict(width=300),
}


class Model(LanguageModel):
  """Two tables and two biases of words."""

  config: Config
  traits = Traits(sees="itself")

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width, std=0.3 / c.width)
    self.around = Embedding(size=c.vocab, width=c.width, std=0.3 / c.width)
    shape, zeros = (padded(c.vocab),), nn.initializers.zeros
    self.bias_V = weight(self, "bias", "V", shape, zeros)
    self.around_bias_V = weight(self, "around_bias", "V", shape, zeros)

  def __call__(self, tokens_BT, **inputs):
    """(logits_BTV in float32: log counts of the words near each word, None)."""
    if self.is_initializing():
      self.log_counts(tokens_BT, tokens_BT)
    return super().__call__(tokens_BT, **inputs)

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """Features: x_BTD, the vectors of the words; positions and segments have no effect.

    No word sees another: a cache is a Mistake.
    """
    del positions_BT, segments_BT
    if cache is not None:
      raise Mistake("word vectors have no cache: no word sees another")
    rate = self.config.run.dropout
    key = dropout_key(self, rate, train=train)
    return Features(dropout(key, self.embed(tokens_BT), rate))

  def log_counts(self, tokens_BT, near_BT, *, train=False):
    """log_BT: the predicted logarithm of the co-occurrence count of two words."""
    x_BTD = self.features(tokens_BT, train=train).x_BTD
    score_BT = jnp.sum(x_BTD * self.around(near_BT), axis=-1)
    bias_BT = take(self.bias_V, tokens_BT)
    return score_BT + bias_BT + take(self.around_bias_V, near_BT)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.around.readout(x_BTD, self.config.run.dtype)
    return mask_padding(logits_BTV + self.around_bias_V[None, None], self.config.vocab)

  def word_vectors(self, params):
    """vectors_VD: the sum of a word's two vectors (section 4.2 of the paper)."""
    return dense(params["embed"]["table"]) + dense(params["around"]["table"])
