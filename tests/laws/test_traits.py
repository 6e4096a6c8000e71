"""Traits of every family agree with its model.

Masks, decoding and packing are laws of test_equalities.py, which takes the families and
the expected results from the traits.
"""

import inspect

import jax
import numpy as np
import pytest
from families import FAMILIES, families_with, tokens

from lm import models

B, T = 2, 8


def outcome(name, **arrays):
  """Returns the shapes of a family's features, given these arrays and its tokens."""
  model = FAMILIES[name].model()
  run = lambda params, arrays: model.apply(
    {"params": params}, tokens(B, T), **arrays, method="features"
  )
  return jax.eval_shape(run, FAMILIES[name].params(), FAMILIES[name].inputs(B) | arrays)


@families_with()
def test_a_model_reads_what_it_declares(name):
  """Compares traits with the arguments of `features`; seq2seq refuses segments."""
  features = type(FAMILIES[name].model()).features
  named = {key for key in inspect.signature(features).parameters if "_" in key}
  expected = {"tokens_BT", *FAMILIES[name].traits.reads}
  if not FAMILIES[name].traits.packs:
    expected.add("segments_BT")
  assert named == expected


@families_with(packs=False)
def test_a_model_that_does_not_pack_refuses_segments(name):
  assert "segments_BT" not in FAMILIES[name].traits.reads
  with pytest.raises(ValueError, match="segments_BT"):
    outcome(name, segments_BT=np.ones((B, T), np.int32))


@families_with()
def test_only_models_that_read_a_source_need_one(name):
  traits, model = FAMILIES[name].traits, FAMILIES[name].model()
  assert traits.source == set(models.SOURCE).issubset(traits.reads)
  run = lambda params: model.apply({"params": params}, tokens(B, T))
  if traits.source:
    with pytest.raises(ValueError, match="reads a source: give source_BS"):
      jax.eval_shape(run, FAMILIES[name].params())
  else:
    jax.eval_shape(run, FAMILIES[name].params())


@families_with(decodes=False)
def test_models_that_do_not_decode_have_no_cache_and_refuse_one(name):
  assert not hasattr(FAMILIES[name].model(), "init_cache")
  with pytest.raises(ValueError, match=r"have no cache|has no cache"):
    outcome(name, cache={})


@families_with(decodes=True)
@pytest.mark.parametrize("scan", [True, False])
def test_a_cache_that_goes_on_to_the_next_batch_has_constant_size(name, scan):
  model = FAMILIES[name].model(scan=scan)
  size = lambda slots: sum(
    x.nbytes for x in jax.tree.leaves(model.init_cache(B, slots))
  )
  constant = size(4) == size(4096)
  traits = FAMILIES[name].traits
  assert traits.carries == (constant and not traits.source)
  if traits.carries:
    carry = model.init_cache(B, 0).carried()
    assert all(x.shape[:2] == (B, 2) for x in carry.values())


@families_with()
def test_word_vectors_have_a_row_for_every_token(name):
  """Checks word_vectors(params): row t is the vector of token t."""
  model, params = FAMILIES[name].model(), FAMILIES[name].params()
  vectors_VD = np.asarray(model.word_vectors(params))
  expected_VD = params["embed"]["table"]
  if name == "glove":
    expected_VD = expected_VD + params["around"]["table"]
  np.testing.assert_array_equal(vectors_VD, expected_VD)
