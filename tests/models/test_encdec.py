"""Encoder-decoders: packed pairs, sources and relative biases."""

import jax
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import models
from lm.nn.attention import backends
from lm.nn.attention.masks import Mask

SMALL = dict(width=16, layers=1, heads=2, vocab=61)


@pytest.mark.parametrize("name", ["t5", "transformer-2017"])
def test_pairs_packed_in_a_row_equal_each_pair_alone(name):
  model, params = FAMILIES[name].model(), FAMILIES[name].params()
  run = jax.jit(
    lambda *args, **inputs: model.apply({"params": params}, *args, **inputs)[0]
  )
  tokens_1T, source_1S = tokens(1, 11), tokens(1, 9, seed=1)
  segments_1T = np.array([[1] * 6 + [2] * 5], np.int32)
  source_segments_1S = np.array([[1] * 3 + [2] * 4 + [0] * 2], np.int32)
  actual_1TV = run(
    tokens_1T,
    source_BS=source_1S,
    segments_BT=segments_1T,
    source_segments_BS=source_segments_1S,
  )
  for part, source in ((slice(0, 6), slice(0, 3)), (slice(6, 11), slice(3, 7))):
    alone_1TV = run(tokens_1T[:, part], source_BS=source_1S[:, source])
    np.testing.assert_allclose(actual_1TV[:, part], alone_1TV, rtol=2e-5, atol=2e-5)


def test_a_backend_without_biases_refuses_them():
  draw = np.random.default_rng(0)
  q_BTNH = draw.normal(size=(1, 128, 2, 64)).astype(np.float32)
  bias_BNTS = draw.normal(size=(1, 2, 128, 128)).astype(np.float32)
  options = dict(scale=0.1, softcap=0.0, dtype="float32", bias=bias_BNTS)
  attend = lambda backend: backends.attend(
    backend, q_BTNH, q_BTNH, q_BTNH, Mask(), **options
  )
  for backend in set(backends.names()) - {"xla"}:
    with pytest.raises(ValueError, match=f"{backend!r} does not do biases; 'xla' does"):
      attend(backend)
  np.testing.assert_array_equal(attend("auto"), attend("xla"))
  plain = backends.attend("xla", *[q_BTNH] * 3, Mask(), **options | {"bias": None})
  assert np.abs(attend("xla") - plain).max() > 0.1


def test_a_missing_source_is_refused():
  model, params = FAMILIES["t5"].model(), FAMILIES["t5"].params()
  for cache in (None, model.init_cache(1, 8)):
    with pytest.raises(ValueError, match="reads a source: give source_BS"):
      run = lambda cache=cache: model.apply(
        {"params": params}, tokens(1, 4), cache=cache
      )
      jax.eval_shape(run)


@pytest.mark.parametrize("fields, message", [
  (dict(heads=3), "heads=3 does not divide width=16"),
  (dict(buckets=6), "buckets=6; wanted a multiple of 4"),
  (dict(reach=16), "reach=16; wanted more than half the buckets, 16"),
  (dict(positions="learned"), "no positions 'learned'; found: distances, sinusoids"),
])  # fmt: skip
def test_values_that_make_no_sense_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    models.build("encdec", **(SMALL | fields))
