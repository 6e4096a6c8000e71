"""Suffixes of names in every family's file, compared with the shapes."""

from functools import partial

import jax
import numpy as np
import suffixes
from families import CONTEXT, FAMILIES, families_with, tokens

B, T = 2, 8


@families_with()
def test_names_tell_the_shapes(name):
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  model, inputs = (
    family.model(**family.shallow, scan=False, dropout=0.25),
    family.inputs(B),
  )
  if family.traits.packs:
    inputs["segments_BT"] = np.ones((B, T), np.int32)

  def packed(params, key):
    rngs = {"dropout": key}
    return model.apply({"params": params}, tokens_BT, **inputs, train=True, rngs=rngs)

  with suffixes.checked("lm/") as names:
    jax.eval_shape(packed, family.params(**family.shallow), jax.random.key(0))
  assert len(names) > 5


@families_with(decodes=True)
def test_names_tell_the_shapes_when_decoding(name):
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  model = family.model(layers=1, scan=False)

  def decode(params):
    apply = partial(model.apply, {"params": params})
    _, cache = apply(tokens_BT, cache=model.init_cache(B, CONTEXT), **family.inputs(B))
    return apply(tokens_BT[:, :1], cache=cache)

  with suffixes.checked("lm/") as names:
    jax.eval_shape(decode, family.params(layers=1))
  assert len(names) > 30
