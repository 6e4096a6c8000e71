"""A new family: a file in lm/models is found, built and trained."""

import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
from families import tokens

from lm import letters, models
from lm.letters import unbox

FAMILY = '''
  """Bigrams: the next token from the last one."""

  from dataclasses import dataclass, field

  from lm.models import Features, LanguageModel, Traits
  from lm.nn.depth import Run
  from lm.nn.layers import Embedding, Readout


  @dataclass(frozen=True)
  class Config:
    vocab: int
    width: int = 8  # D
    run: Run = field(default_factory=Run)


  PRESETS = {"bigram-tiny": dict(width=4)}


  class Model(LanguageModel):
    config: Config
    traits = Traits(sees="itself")

    def setup(self):
      c = self.config
      self.embed = Embedding(size=c.vocab, width=c.width)
      self.head = Readout(vocab=c.vocab, dtype=c.run.dtype)

    def features(self, tokens_BT, *, positions_BT=None, segments_BT=None, train=False):
      return Features(self.embed(tokens_BT))

    def readout(self, x_BTD):
      return self.head(x_BTD)
'''


@pytest.fixture
def bigram(tmp_path, monkeypatch):
  """Returns the name of a family whose file is in another folder of the package."""
  (tmp_path / "bigram.py").write_text(textwrap.dedent(FAMILY))
  monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
  yield "bigram"
  sys.modules.pop("lm.models.bigram", None)
  del models.bigram


def test_a_new_family_takes_a_step(bigram):
  model = models.build(bigram, preset="bigram_tiny", vocab=61)
  assert models.defaults(bigram, "bigram-tiny")["width"] == 4
  assert models.build(**models.fields(model), vocab=61) == model
  tokens_BT = tokens(2, 8)
  params = unbox(model.init(jax.random.key(0), tokens_BT)["params"])

  @jax.jit
  def loss(params):
    logits_BTV, _ = model.apply({"params": params}, tokens_BT)
    logprobs_BTV = jax.nn.log_softmax(logits_BTV[:, :-1])
    return -jnp.take_along_axis(logprobs_BTV, tokens_BT[:, 1:, None], axis=-1).mean()

  grads = jax.grad(loss)(params)
  stepped = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
  assert loss(stepped) < loss(params)
  assert model.word_vectors(params).shape == (128, 4)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    (
      "PRESETS",
      "PRESET",
      r"lm/models/bigram.py defines no PRESETS; lm/models/__init__",
    ),
    ("class Model", "class Bigram", "lm/models/bigram.py defines no Model; "),
    (
      "Embedding(size=c.vocab, width=c.width)",
      "nn.Embed(c.vocab, c.width)",
      "parameter embed/embedding has no letters, like flax's nn.Dense",
    ),
    ("", "", r"Config of lm/models/bigram.py has no field context: int = 0; "),
  ],
)
def test_what_a_family_needs_is_one_line(old, new, message, tmp_path, monkeypatch):
  text = f"from flax import linen as nn\n{textwrap.dedent(FAMILY)}"
  (tmp_path / "bigram.py").write_text(text.replace(old, new) if old else text)
  monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
  try:
    with pytest.raises(ValueError, match=message):
      model = models.build("bigram", vocab=61)
      letters.abstract(model, tokens(2, 8))
      models.check_config(model)
  finally:
    sys.modules.pop("lm.models.bigram", None)
    del models.bigram


def test_without_the_file_there_is_no_such_family():
  with pytest.raises(
    ValueError, match="no 'bigram' in lm/models; found: bart, decoder"
  ):
    models.build("bigram", vocab=61)
