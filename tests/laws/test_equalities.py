"""Equalities that hold for every family in the table of families.py."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled, shapes
from families import CONTEXT, FAMILIES, MESHES, VOCAB, families_with, picture, tokens

from lm import letters as dims
from lm.letters import batch_shardings, make_mesh, shardings
from lm.nn.depth import split

B, T = 2, 8


def close(actual, expected, tolerance=2e-5):
  """Checks that trees are equal within `tolerance`, absolute and relative."""
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
    actual,
    expected,
  )


def apply(model, **fixed):
  """Jits model.apply: (params, tokens_BT, **arrays) -> (logits_BTV, cache)."""
  return jax.jit(
    lambda params, *args, **options: model.apply(
      {"params": params}, *args, **options, **fixed
    )
  )


def full(name, tokens_BT, **inputs):
  """Returns logits_BTV of a family's default model."""
  family = FAMILIES[name]
  inputs = family.inputs(len(tokens_BT)) | inputs
  return apply(family.model())(family.params(), tokens_BT, **inputs)[0]


def loss(model, params, batch, key=None):
  """Returns a scalar that depends on every logit."""
  options = {} if key is None else dict(train=True, rngs={"dropout": key})
  tokens_BT, inputs = (
    batch["tokens_BT"],
    {k: batch[k] for k in batch if k != "tokens_BT"},
  )
  logits_BTV, _ = model.apply({"params": params}, tokens_BT, **inputs, **options)
  picked_BT1 = jnp.take_along_axis(logits_BTV, tokens_BT[..., None], axis=-1)
  norm_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
  return jnp.mean(norm_BT - picked_BT1[..., 0]) + 0.1 * jnp.mean(logits_BTV**2)


def batch(name, B, T):
  """Returns the arrays of a batch of a family's model."""
  return {"tokens_BT": tokens(B, T)} | FAMILIES[name].inputs(B)


# Decoding


@families_with(decodes=True)
@pytest.mark.parametrize("scan", [True, False])
def test_cached_decode_equals_full_forward(name, scan):
  """Prefills unequal prompts, padded on the right, then decodes token by token."""
  family, tokens_BT = FAMILIES[name], tokens(B, CONTEXT)
  expected_BTV = full(name, tokens_BT)
  model, params = family.model(scan=scan), family.params()
  step = apply(model)
  if not scan:
    params = split(params)
  prompts_B, P = np.array([5, 2]), 6
  positions_BT = np.where(np.arange(P)[None] < prompts_B[:, None], np.arange(P), -1)
  cache = model.init_cache(B, P + CONTEXT)
  options = dict(positions_BT=positions_BT.astype(np.int32), cache=cache)
  actual_BTV, cache = step(params, tokens_BT[:, :P], **options, **family.inputs(B))
  for b, length in enumerate(prompts_B):
    close(actual_BTV[b, :length], expected_BTV[b, :length])
  for ahead in range(CONTEXT - max(prompts_B)):
    next_positions_B1 = (prompts_B + ahead)[:, None].astype(np.int32)
    next_B1 = np.take_along_axis(tokens_BT, next_positions_B1, axis=1)
    actual_B1V, cache = step(
      params, next_B1, positions_BT=next_positions_B1, cache=cache
    )
    close(
      actual_B1V[:, 0],
      np.take_along_axis(expected_BTV, next_positions_B1[..., None], axis=1)[:, 0],
    )


@families_with(decodes=True)
def test_decoding_from_nothing_equals_full_forward(name):
  """Decodes without positions, which then count from the index of the cache."""
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  model = family.model()
  step, cache, actual = apply(model), model.init_cache(B, T), []
  for t in range(T):
    inputs = {} if t else family.inputs(B)  # the cache keeps the source
    next_B1 = tokens_BT[:, t : t + 1]
    logits_B1V, cache = step(family.params(), next_B1, cache=cache, **inputs)
    actual.append(logits_B1V)
  close(np.concatenate(actual, axis=1), full(name, tokens_BT))


# Scan, remat, dropout and dtypes


@pytest.fixture(scope="module")
def plain():
  """Returns name -> (loss, gradients): scanned, with dropout, nothing recomputed."""
  results = {}

  def result_of(name):
    if name not in results:
      family = FAMILIES[name]
      results[name] = train(name, family.params(), scan=True)
    return results[name]

  return result_of


def train(name, params, **fields):
  model = FAMILIES[name].model(dropout=0.25, **fields)
  step = jax.jit(jax.value_and_grad(partial(loss, model)))
  return step(params, batch(name, B, T), jax.random.key(3))


@families_with()
def test_unrolled_equals_scanned(name, plain):
  close(train(name, FAMILIES[name].params(), scan=False), plain(name))


@families_with()
def test_recomputing_changes_nothing_scanned(name, plain):
  actual = train(name, FAMILIES[name].params(), scan=True, remat="dots")
  close(actual, plain(name))


@families_with()
def test_recomputing_changes_nothing_unrolled_with_split_parameters(name, plain):
  params = split(FAMILIES[name].params())
  value, grads = train(name, params, scan=False, remat="full")
  expected_value, expected_grads = plain(name)
  close((value, grads), (expected_value, split(expected_grads)))


@families_with()
def test_dropout_is_for_training_and_by_key(name):
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  run = partial(apply(family.model(dropout=0.25)), **family.inputs(B))
  key = jax.random.key(3)
  expected_BTV = full(name, tokens_BT)
  close(run(family.params(), tokens_BT)[0], expected_BTV, 0)
  close(run(family.params(), tokens_BT, rngs={"dropout": key})[0], expected_BTV, 0)
  train = partial(apply(family.model(dropout=0.25), train=True), **family.inputs(B))
  first_BTV, repeated_BTV, rekeyed_BTV = (
    train(family.params(), tokens_BT, rngs={"dropout": k})[0]
    for k in (key, key, jax.random.key(4))
  )
  close(first_BTV, repeated_BTV, 0)
  apart = lambda x, y: float(np.abs(x - y).mean())
  assert min(apart(first_BTV, rekeyed_BTV), apart(first_BTV, expected_BTV)) > 1e-3


@families_with()
def test_bfloat16_is_close_to_float32(name):
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  run = apply(family.model(dtype="bfloat16"))
  actual_BTV = run(family.params(), tokens_BT, **family.inputs(B))[0]
  expected_BTV = full(name, tokens_BT)
  assert actual_BTV.dtype == expected_BTV.dtype == np.float32
  error = float(jnp.abs(actual_BTV - expected_BTV).max() / jnp.std(expected_BTV))
  assert 1e-4 < error < 0.1  # 8 bits of mantissa, and not computed in float32


# Meshes


ROWS, LONG = 24, 10  # sizes that no other dimension of these models has


@pytest.fixture(scope="module")
def on_one_device():
  """Returns name -> (loss, gradients) without a mesh, for the next test's batch."""
  return cache(
    lambda name: jax.jit(jax.value_and_grad(partial(loss, FAMILIES[name].model())))(
      FAMILIES[name].params(), batch(name, ROWS, LONG)
    )
  )


@families_with()
@pytest.mark.parametrize("mesh", MESHES)
def test_sharded_equals_one_device(name, mesh, on_one_device, capfd):
  family = FAMILIES[name]
  if mesh not in family.meshes:
    pytest.skip(f"{name} cannot be split so")
  model, mesh = family.model(), make_mesh(**MESHES[mesh])
  abstract, letters = dims.abstract(model, tokens(1, 2))
  param_shardings = shardings(mesh, letters, abstract)
  rows = batch(name, ROWS, LONG)
  split_rows = batch_shardings(mesh, rows)
  with jax.set_mesh(mesh):
    step_of = jax.jit(
      jax.value_and_grad(partial(loss, model)),
      in_shardings=(param_shardings, split_rows),
      out_shardings=(None, param_shardings),
    )
    step, messages = compiled(capfd, step_of, (family.params(), rows))
    placed = jax.device_put(family.params(), param_shardings)
    rows = jax.device_put(rows, split_rows)
    close(step(placed, rows), on_one_device(name))
  assert "rematerialization" not in messages
  # No device holds the whole batch, of which newer partitioners do not warn.
  whole = {ROWS, ROWS * LONG, ROWS * family.source}
  assert not [shape for shape in shapes(step) if whole & set(shape)]


# Masks


@families_with(packs=True)
def test_packed_equals_each_document_alone(name):
  lengths, tokens_1T = (5, 7), tokens(1, CONTEXT)
  segments_1T = np.repeat([[1, 2, 0]], [*lengths, CONTEXT - sum(lengths)], axis=1)
  actual_1TV = full(name, tokens_1T, segments_BT=segments_1T.astype(np.int32))
  start = 0
  for length in lengths:
    document = slice(start, start + length)
    close(actual_1TV[:, document], full(name, tokens_1T[:, document]))
    start += length


@families_with()
def test_padding_changes_no_real_token(name):
  """Pads on the left, in the middle and on the right, with two different tokens."""
  family, real_T = FAMILIES[name], tokens(1, 6)[0]
  positions_BT = np.array(
    [
      [-1, -1, -1, 0, 1, 2, 3, 4, 5],
      [0, 1, -1, 2, 3, -1, -1, 4, 5],
      [0, 1, 2, 3, 4, 5, -1, -1, -1],
    ],
    np.int32,
  )
  expected_TV = full(name, real_T[None])[0]
  run = partial(apply(family.model()), **family.inputs(len(positions_BT)))
  for pad in (0, VOCAB - 1):
    padded_BT = np.where(positions_BT < 0, pad, real_T[positions_BT])
    actual_BTV = np.asarray(
      run(family.params(), padded_BT, positions_BT=positions_BT)[0]
    )
    assert np.isfinite(actual_BTV).all()
    close(actual_BTV[positions_BT >= 0], np.concatenate([expected_TV] * 3))


@families_with()
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_flow_where_the_mask_lets_them(name, packed):
  """Checks that d features[t] / d embedding of token s is 0 iff t does not see s."""
  family, tokens_1T = FAMILIES[name], tokens(1, 6)
  if packed and not family.traits.packs:
    pytest.skip(f"{name} takes one document a row")
  model, params = family.model(**family.shallow), family.params(**family.shallow)
  segments_1T = np.array([[1, 1, 2, 2, 2, 0]], np.int32)
  inputs = family.inputs(1) | (dict(segments_BT=segments_1T) if packed else {})

  def features(table_VD):
    changed = params | {"embed": {"table": table_VD}}
    x_1TD, *_ = model.apply({"params": changed}, tokens_1T, method="features", **inputs)
    return x_1TD[0] @ np.random.default_rng(0).standard_normal(x_1TD.shape[-1])

  jacobian_TVD = jax.jit(jax.jacrev(features))(params["embed"]["table"])
  flows_TS = np.abs(jacobian_TVD).max(axis=-1)[:, tokens_1T[0]] > 0
  expected_TS = picture(family.sees)
  if packed:
    expected_TS &= segments_1T == segments_1T.T
  np.testing.assert_array_equal(flows_TS.astype(int), expected_TS.astype(int))


# The vocabulary


@families_with()
def test_padding_of_the_vocabulary_is_never_likely(name):
  family, tokens_BT = FAMILIES[name], tokens(B, T)
  model, params = family.model(), family.params()
  x_BTD, *_ = apply(model, method="features")(params, tokens_BT, **family.inputs(B))
  padded_BTV = apply(model, method="readout")(params, x_BTD)
  assert padded_BTV.shape == (B, T, 128)
  assert np.all(jax.nn.softmax(padded_BTV)[..., VOCAB:] == 0)
  close(padded_BTV[..., :VOCAB], full(name, tokens_BT))
