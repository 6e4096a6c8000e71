"""Word vectors: two tables, one for words and one for the words around them.

Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546; trained by the objectives
`skip_gram` and `cbow`, whose docstrings have what differs. The vector of a word is its
row of embed/table. As a language model it reads one word and predicts its neighbours.

Read first: nn/layers.py (Embedding).
"""

from dataclasses import dataclass, field

from lm.errors import Mistake, not_negative, positive
from lm.models import Features, LanguageModel, Traits
from lm.nn.depth import Run
from lm.nn.layers import Embedding, dropout, dropout_key, mask_padding
from lm.nn.linear import dot


@dataclass(frozen=True)
class Config:
  """The size of the vectors."""

  vocab: int  # words; tables are padded to a multiple of 128
  context: int = 0  # the longest row; 0 means no limit
  width: int = 100  # D
  run: Run = field(default_factory=Run)  # there is no depth to scan or to recompute

  def __post_init__(self):
    positive(self, "vocab", "width")
    not_negative(self, "context")


PRESETS = {
  "word2vec-100": dict(width=100),
  "word2vec-google-news": dict(width=300),  # the released GoogleNews vectors
}


class Model(LanguageModel):
  """Two tables of words, of skip-gram and of CBOW: their objectives differ."""

  config: Config
  traits = Traits(sees="itself")

  def setup(self):
    c = self.config
    self.embed = Embedding(size=c.vocab, width=c.width, std=0.3 / c.width)
    self.around = Embedding(size=c.vocab, width=c.width, std=0.0)

  def __call__(self, tokens_BT, **inputs):
    """(logits_BTV in float32 of the words near each word, None)."""
    if self.is_initializing():
      self.contexts(tokens_BT)
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

  def contexts(self, tokens_BT):
    """x_BTD: the vectors that the words have as neighbours of another."""
    return self.around(tokens_BT)

  def scores(self, x_BTD, near_BSD):
    """scores_BTS in float32 of every x with every vector near it."""
    return dot("BTD,BSD->BTS", x_BTD, near_BSD, self.config.run.dtype)

  def readout(self, x_BTD):
    """logits_BTV in float32, V padded to a multiple of 128 and the padding masked."""
    logits_BTV = self.around.readout(x_BTD, self.config.run.dtype)
    return mask_padding(logits_BTV, self.config.vocab)
