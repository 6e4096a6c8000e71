"""What an encoder may say: the shapes of it, its parameters, and what makes no sense.

That it says what those of transformers do is in test_interop.py.
"""

import jax
import jax.numpy as jnp
import pytest
import suffixes
from families import CONTEXT, VOCAB, tokens

from lm import models

B, T, D = 2, 8, 32
SMALL = dict(width=D, layers=1, heads=4, context=CONTEXT)
BODY = {"embed", "positions", "types", "norm", "blocks"}
# Fields -> the shape of what is said, and the parameters beside the body's.
SAID = {
  (("head", "none"),): ((B, T, D), set()),
  (("head", "none"), ("pooler", True)): ((B, T, D), {"pooler"}),
  (("head", "tokens"),): ((B, T, VOCAB), {"head", "bias"}),
  (("pooler", True),): ((B, T, VOCAB), {"head", "bias", "pooler", "follows"}),
  (("head", "next"), ("pooler", True)): ((B, 2), {"pooler", "follows"}),
  (("head", "classes"), ("classes", 5), ("pooler", True)): (
    (B, 5),
    {"pooler", "classifier"},
  ),
  (("head", "classes"), ("hidden", "relu")): ((B, 2), {"hidden", "classifier"}),
  (("head", "labels"), ("classes", 5)): ((B, T, 5), {"classifier"}),
  (("head", "span"),): ((B, T, 2), {"classifier"}),
}


def model(**fields):
  return models.build("encoder", vocab=VOCAB, **(SMALL | fields))


@pytest.mark.parametrize("fields", SAID, ids=lambda fields: str(dict(fields)))
def test_what_it_says_and_what_it_has_for_that(fields):
  shape, more = SAID[fields]
  built = model(**dict(fields))
  with suffixes.checked("lm/") as names:
    made = jax.eval_shape(built.init, jax.random.key(0), tokens(B, T))["params"]
    said, cache = jax.eval_shape(built.apply, {"params": made}, tokens(B, T))
  assert set(made) == BODY | more
  assert said.shape == shape and said.dtype == jnp.float32 and cache is None
  assert len(names) > 30


@pytest.mark.parametrize(
  ("fields", "told"),
  [
    (dict(head="word"), "no head 'word'; found: none, tokens, next"),
    (dict(head="classes"), "head='classes' reads the pooler; set pooler=True"),
    (dict(head="next"), "head='next' reads the pooler"),
    (dict(head="labels", classes=0), "classes=0 with head='labels'; wanted 1 or more"),
    (dict(head="span", classes=3), "classes=3 with head='span'"),
    (dict(head="labels", hidden="tanh"), "hidden='tanh' is for head='classes'"),
    (dict(head="classes", hidden="gelu"), "no hidden 'gelu'; found: tanh, relu"),
    (dict(first_position=-1), "first_position=-1; wanted 0"),
    (
      dict(first_position=2, positions="rotary"),
      "first_position is for positions='learned'",
    ),
  ],
)
def test_what_makes_no_sense(fields, told):
  with pytest.raises(ValueError, match=told):
    model(**fields)


@pytest.mark.parametrize("method", ["readout", "pool", "next_sentence", "classify"])
def test_a_head_that_is_not_there(method):
  built = model(head="labels")
  made = jax.eval_shape(built.init, jax.random.key(0), tokens(B, T))
  x_BTD = jax.ShapeDtypeStruct((B, T, D), jnp.float32)
  with pytest.raises(ValueError, match="has head='labels', pooler=False; wanted "):
    jax.eval_shape(lambda p, x: built.apply(p, x, method=method), made, x_BTD)
