"""Word vectors: two tables, one for words and one for the words around them.

Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546; trained by the objectives
`skip_gram` and `cbow`, which also hold what differs. The vector of a word is its row of
embed/table. As a language model it knows one word alone: which ones are near.
"""

from dataclasses import dataclass, field

from flax import linen as nn

from lm.errors import Mistake, not_negative, positive
from lm.models import Features, Traits
from lm.nn.depth import Run
from lm.nn.layers import Embedding, dropout, mask_padding
from lm.nn.linear import dot


@dataclass(frozen=True)
class Config:
  vocab: int  # words; tables are padded to a multiple of 128
  context: int = 0  # 0: rows may have any length
  width: int = 100  # D
  run: Run = field(default_factory=Run)  # there is no depth to scan or to recompute

  def __post_init__(self):
    positive(self, "vocab", "width")
    not_negative(self, "context")


PRESETS = {
  "word2vec-100": dict(width=100),
  "word2vec-google-news": dict(width=300),  # the vectors that everybody downloads
}


class Model(nn.Module):
  config: Config
  traits = Traits(sees="itself")

  def setup(self):
    c = self.config
    self.embed = Embedding(c.vocab, c.width, std=0.3 / c.width)
    self.around = Embedding(c.vocab, c.width, std=0.0)

  def __call__(self, tokens_BT, **how):
    """logits_BTV in float32 of the words near each word, and None."""
    x_BTD, _, _ = self.features(tokens_BT, **how)
    if self.is_initializing():
      self.contexts(tokens_BT)
    return self.readout(x_BTD)[..., : self.config.vocab], None

  def features(
    self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False
  ):
    """x_BTD, the vectors of the words, and None: each word is seen alone."""
    del positions_BT, segments_BT
    if cache is not None:
      raise Mistake("word vectors have no cache: no word sees another")
    rate = self.config.run.dropout
    key = self.make_rng("dropout") if train and rate else None
    return Features(dropout(key, self.embed(tokens_BT), rate))

  def contexts(self, tokens_BT):
    """x_BTD, the vectors that the words have where they are near another."""
    return self.around(tokens_BT)

  def scores(self, x_BTD, near_BSD):
    """scores_BTS in float32 of every x with every vector near it."""
    return dot("BTD,BSD->BTS", x_BTD, near_BSD, self.config.run.dtype)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.around.readout(x_BTD, self.config.run.dtype)
    return mask_padding(logits_BTV, self.config.vocab)
