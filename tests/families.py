"""Table of the model families that the equalities are stated over.

Every family of the table is tested by every test of test_equalities.py. Its model
declares its abilities in `traits`, which test_traits.py checks; `families_with` leaves
a family out of the tests of abilities that it lacks.
"""

from dataclasses import dataclass
from functools import cache

import jax
import numpy as np
import pytest

from lm import lookup, models, trees
from lm.letters import abstract

VOCAB, CONTEXT = 61, 16  # 61 is padded to 128, and no other size is equal to it

MESHES = {
  "fsdp": dict(fsdp=8),
  "tensor": dict(data=2, fsdp=2, tensor=2),
  "context": dict(fsdp=2, tensor=2, context=2),
}

# Pictures of attention through one layer: 1 where the row's token sees the column's.
CAUSAL = """
  100000
  110000
  111000
  111100
  111110
  111111
"""
BOTH_WAYS = """
  111111
  111111
  111111
  111111
  111111
  111111
"""
ITSELF = """
  100000
  010000
  001000
  000100
  000010
  000001
"""
WINDOW_3 = """
  100000
  110000
  111000
  011100
  001110
  000111
"""


# {`Traits.sees`: picture}
SEES = {"past": CAUSAL, "both": BOTH_WAYS, "itself": ITSELF}
SOURCE_S = 7  # tokens of a source


def picture(text: str) -> np.ndarray:
  """Returns a boolean mask from rows of 0 and 1."""
  return np.array([[c == "1" for c in row] for row in text.split()])


@dataclass(frozen=True)
class Family:
  """A small model: its file in lm/models, its fields, and the meshes that it fits."""

  name: str  # of a file of lm/models
  fields: dict  # over the file's defaults
  meshes: tuple = tuple(MESHES)
  window: str = ""  # picture of a model with a narrower mask than its traits

  @property
  def traits(self):
    """Traits that the family's model declares."""
    return lookup.find("lm.models", self.name).Model.traits

  @property
  def sees(self) -> str:
    """Picture of the tokens that each token sees."""
    return self.window or SEES[self.traits.sees]

  @property
  def source(self) -> int:
    """Length of the source_BS that the model also reads; 0 if it reads none."""
    return SOURCE_S if self.traits.source else 0

  def inputs(self, B: int) -> dict:
    """Returns the arrays of a batch of B rows other than its tokens.

    The source is the same in all rows, so that rows can be compared, and has none of
    the ids that `tokens` gives the first row, so that their effects stay apart.
    """
    if not self.source:
      return {}
    source_S = tokens(1, VOCAB)[0, -self.source :]
    return {"source_BS": np.tile(source_S, (B, 1))}

  @property
  def shallow(self) -> dict:
    """Fields of the shallowest model: one layer, if the family has layers."""
    return {"layers": 1} if "layers" in self.fields else {}

  def model(self, **fields):
    return models.build(self.name, vocab=VOCAB, **(self.fields | fields))

  def params(self, **fields):
    return _params(self.model(scan=True, **fields))


@cache
def _params(model):
  """Returns random parameters: zeros and ones would hide missing connections."""
  shapes, _ = abstract(model, tokens(1, 2))
  draw = np.random.default_rng(0)

  def draw_leaf(path, leaf):
    mean = 1 if trees.path_name(path).endswith("scale") else 0
    return mean + 0.2 * draw.standard_normal(leaf.shape, np.float32)

  return jax.tree_util.tree_map_with_path(draw_leaf, shapes)


def tokens(B: int, T: int, seed=0) -> np.ndarray:
  """Returns tokens_BT, all different within a row (T <= VOCAB)."""
  draw = np.random.default_rng(seed)
  return np.stack([draw.permutation(VOCAB)[:T] for _ in range(B)]).astype(np.int32)


def decoder(meshes=tuple(MESHES), window_picture="", **fields) -> Family:
  small = dict(width=32, layers=2, heads=4, context=CONTEXT)
  return Family("decoder", small | fields, meshes, window_picture)


def encoder(meshes=(), **fields) -> Family:
  small = dict(width=32, layers=2, heads=4, context=CONTEXT)
  return Family("encoder", small | fields, meshes)


def rnn(cell: str, *meshes, **fields) -> Family:
  # Time cannot be split over devices, since every token needs the previous state.
  return Family("rnn", dict(cell=cell, width=32, layers=2) | fields, meshes)


def encdec(meshes=(), **fields) -> Family:
  # T5 does not divide its scores: small heads keep them small.
  small = dict(width=32, layers=2, source_layers=1, heads=4, head_size=4, ff=40)
  return Family("encdec", small | fields, meshes)


def bart(meshes=(), **fields) -> Family:
  small = dict(width=32, layers=2, source_layers=1, heads=4, ff=40, context=CONTEXT)
  return Family("bart", small | fields, meshes)


GPT2 = dict(positions="learned", norm="layer", activation="gelu_tanh", bias=True)
GEMMA = dict(width=32, layers=2, heads=4, kv_heads=2, head_size=8, ff=40)
GEMMA |= dict(context=CONTEXT, window=3, theta=500.0, qk_norm="head")

# Logits come from the generator, whose width differs from the tables'.
ELECTRA = dict(width=32, layers=2, heads=4, table=20, generator=0.5, context=CONTEXT)

MARIAN = dict(positions="sinusoids_as_printed", first_position=0, embedding_norm=False)
MARIAN |= dict(scaled=True, activation="silu")
M2M100 = dict(positions="sinusoids", post_norm=False, embedding_norm=False)
M2M100 |= dict(scaled=True, logits_bias=False, activation="relu")

TRANSFORMER = dict(positions="sinusoids", norm="layer", post_norm=True, bias=True)
TRANSFORMER |= dict(divided=True, unit_table=False)

FAMILIES = {
  "gpt2": decoder(**GPT2),
  "llama": decoder(kv_heads=2, tied=False, theta=500.0),
  # As GPT-NeoX, with a single key; and as OLMo 2, with what Gemma 2 has.
  "neox": decoder(
    order="parallel",
    rotary_share=0.5,
    kv_heads=1,
    head_size=16,
    bias=True,
    ff=40,
    activation="geglu",
    meshes=("fsdp",),
  ),
  "window": decoder(window=3, window_picture=WINDOW_3, kv_heads=2),
  "olmo2": decoder(
    order="after", qk_norm="width", softcap=2.0, logit_softcap=3.0, activation="relu2"
  ),
  # With these sizes bfloat16 chooses the same experts as float32.
  "moe": decoder(experts=4, ff=16, kv_heads=2, meshes=("tensor",)),
  "gemma": Family("gemma", GEMMA, ("tensor",), WINDOW_3),
  "t5": encdec(("tensor",), buckets=8, reach=10),
  "transformer-2017": encdec(**TRANSFORMER, layers=1),
  "bart": bart(("tensor",)),
  "mbart": bart(post_norm=False, scaled=True, layers=1),
  "marian": bart(**MARIAN, layers=1),
  "m2m100": bart(**M2M100),
  "bert": encoder(("tensor",)),
  "bert-pre": encoder(post_norm=False, types=0),
  "bert-rotary": encoder(positions="rotary", theta=500.0, qk_norm="head", kv_heads=2),
  "electra": Family("electra", ELECTRA, ("tensor",)),
  "lstm": rnn("lstm", "tensor"),
  "gru": rnn("gru", "fsdp", tied=False),
  "seq2seq": Family("seq2seq", dict(width=32, layers=2), ("fsdp",)),
  "mamba2": Family(
    "mamba2",
    dict(width=32, layers=2, heads=4, groups=2, state=6, chunk=4),
    ("tensor",),
  ),
  "word2vec": Family("word2vec", dict(width=32), ("tensor",)),
  "glove": Family("glove", dict(width=32), ("tensor",)),
}


def families_with(**traits):
  """Parametrises a test by the names of the families that have these traits."""
  names = [
    name
    for name, family in FAMILIES.items()
    if all(getattr(family.traits, key) == value for key, value in traits.items())
  ]
  return pytest.mark.parametrize("name", names)
