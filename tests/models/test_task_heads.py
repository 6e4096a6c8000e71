"""Output heads of encoders: their shapes, parameters and mistakes.

Their numbers are compared with transformers' in tests/stores.
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
# (fields, shape of the output, parameters beside the body's).
OUTPUTS = {
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


@pytest.mark.parametrize("fields", OUTPUTS, ids=lambda fields: str(dict(fields)))
def test_a_head_has_its_output_and_its_parameters(fields):
  shape, parts = OUTPUTS[fields]
  built = model(**dict(fields))
  with suffixes.checked("lm/") as names:
    params = jax.eval_shape(built.init, jax.random.key(0), tokens(B, T))["params"]
    output, cache = jax.eval_shape(built.apply, {"params": params}, tokens(B, T))
  assert set(params) == BODY | parts
  assert output.shape == shape and output.dtype == jnp.float32 and cache is None
  assert len(names) > 30


@pytest.mark.parametrize(
  ("fields", "message"),
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
def test_fields_that_exclude_each_other_are_one_line(fields, message):
  with pytest.raises(ValueError, match=message):
    model(**fields)


@pytest.mark.parametrize("method", ["readout", "pool", "next_sentence", "classify"])
def test_a_head_that_is_not_there(method):
  built = model(head="labels")
  variables = jax.eval_shape(built.init, jax.random.key(0), tokens(B, T))
  x_BTD = jax.ShapeDtypeStruct((B, T, D), jnp.float32)
  with pytest.raises(ValueError, match="has head='labels', pooler=False; wanted "):
    jax.eval_shape(lambda p, x: built.apply(p, x, method=method), variables, x_BTD)
