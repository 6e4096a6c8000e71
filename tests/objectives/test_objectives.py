"""Objectives: sums by hand, the same in pieces, micro-batches and on meshes."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend import core
from suffixes import checked

from lm import lookup, objectives
from lm.errors import Mistake
from lm.letters import batch_shardings, constrain, make_mesh, shardings
from lm.models import Features
from lm.objectives import scoring
from lm.objectives.next_token import next_token
from lm.objectives.softmax import cross_entropy

B, T, D, V = 8, 16, 32, 64
LETTERS = {"embed": "VD", "out": "DV"}


def apply(variables, x, *, method, segments_BT=None, train=None, rngs=None):
  """Model that embeds tokens, drops some when training, and reads out."""
  params = variables["params"]
  if method == "readout":
    assert set(params) == set(LETTERS)
    return constrain(jnp.einsum("BTD,DV->BTV", x, params["out"]), "BTV")
  x_BTD = params["embed"][x]
  if segments_BT is not None:
    x_BTD *= segments_BT[..., None]
  if train:
    x_BTD *= jax.random.bernoulli(rngs["dropout"], 0.5, x_BTD.shape)
  else:
    assert rngs == {}
  return Features(jnp.tanh(x_BTD))


def draw(length=T, seed=0):
  rng = np.random.default_rng(seed)
  params = {"embed": rng.normal(size=(V, D)), "out": rng.normal(size=(D, V))}
  batch = {
    "tokens_BT": rng.integers(0, V, (B, length)).astype(np.int32),
    "targets_BT": rng.integers(0, V, (B, length)).astype(np.int32),
    "weights_BT": rng.integers(0, 3, (B, length)).astype(np.float32),
  }
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), batch


def value_and_grad(params, batch, **kwargs):
  def loss(params):
    options = {"train": False} | kwargs
    sums = next_token(apply, params, batch, jax.random.key(0), **options)
    return sums["loss"][0], sums

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


def assert_close(a, b, rtol=1e-5, atol=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
  )


@pytest.mark.parametrize("scale", [1, 1e4])
def test_cross_entropy_is_optax(scale):
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(B, T, V)) * scale, jnp.float32)
  logits = logits.at[..., -3:].set(jnp.finfo(jnp.float32).min)  # a padded vocabulary
  targets = jnp.asarray(rng.integers(0, V - 3, (B, T)))
  plain = optax.softmax_cross_entropy_with_integer_labels
  assert_close(cross_entropy(logits, targets)[0], plain(logits, targets))
  weights = jnp.asarray(rng.normal(size=(B, T)), jnp.float32)
  actual = jax.grad(lambda x: jnp.sum(cross_entropy(x, targets)[0] * weights))(logits)
  expected = jax.grad(lambda x: jnp.sum(plain(x, targets) * weights))(logits)
  assert_close(actual, expected)
  assert jnp.isfinite(actual).all()


def test_z_loss_and_its_gradient():
  params, batch = draw()
  coefficient = 0.1

  def plain(params):
    x = jnp.tanh(params["embed"][batch["tokens_BT"]])
    keep = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    x = jnp.tanh(params["embed"][batch["tokens_BT"]] * keep)
    logits = x @ params["out"]
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target = jnp.take_along_axis(logits, batch["targets_BT"][..., None], -1)[..., 0]
    nll = log_z - target
    return jnp.sum((nll + coefficient * log_z**2) * batch["weights_BT"])

  expected, grads = jax.value_and_grad(plain)(params)
  (loss, sums), actual_grads = value_and_grad(
    params, batch, train=True, z_loss=coefficient
  )
  assert_close((loss, actual_grads), (expected, grads), rtol=1e-4, atol=1e-4)
  assert sums["nats_per_token"][0] < loss
  (loss, sums), _ = value_and_grad(params, batch, z_loss=coefficient)
  assert sums["nats_per_token"] == sums["loss"]  # in evaluation, the plain loss


def test_sums_by_hand():
  params, batch = draw()
  batch["bytes_BT"] = batch["targets_BT"] % 4
  logits = np.tanh(params["embed"])[batch["tokens_BT"]] @ params["out"]
  log_p = np.asarray(jax.nn.log_softmax(logits))
  nll = -np.take_along_axis(log_p, batch["targets_BT"][..., None], -1)[..., 0]
  weights, num_bytes = batch["weights_BT"], batch["bytes_BT"]
  hits = np.argmax(logits, -1) == batch["targets_BT"]
  sums = next_token(apply, params, batch, None, train=False)
  assert_close(sums["loss"], (np.sum(nll * weights), weights.sum()))
  assert sums["nats_per_token"] == sums["loss"]
  assert sums["accuracy"] == (np.sum(hits * weights), weights.sum())
  bits, count = sums["bits_per_byte"]
  assert count == np.sum(num_bytes * weights)
  assert_close(bits, np.sum((nll * weights)[num_bytes > 0]) / np.log(2))


@pytest.mark.parametrize("length, pieces", [(16, 2), (16, 16), (13, 3), (5, 4)])
def test_in_pieces_equals_whole(length, pieces):
  params, batch = draw(length)
  batch["bytes_BT"] = batch["targets_BT"] % 4
  whole = value_and_grad(params, batch)
  limit = -(-4 * B * length * V // pieces)
  assert_close(value_and_grad(params, batch, logits_bytes=limit), whole)


def largest(jaxpr):
  """Returns the size of the largest array that a jaxpr makes anywhere inside."""
  sizes = [0]
  for eqn in jaxpr.eqns:
    sizes += [v.aval.size for v in eqn.outvars if hasattr(v.aval, "size")]
    for inner in jax.tree.leaves(
      list(eqn.params.values()),
      is_leaf=lambda x: isinstance(x, core.ClosedJaxpr | core.Jaxpr),
    ):
      if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
        sizes.append(largest(getattr(inner, "jaxpr", inner)))
  return max(sizes)


def test_pieces_never_make_all_logits_forward_or_backward():
  params, batch = draw()
  whole = 4 * B * T * V

  def sizes_of(limit):
    def loss(params):
      sums = next_token(apply, params, batch, None, train=False, logits_bytes=limit)
      return sums["loss"][0]

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    arrays = largest(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
    return arrays * 4, compiled.memory_analysis().temp_size_in_bytes

  assert sizes_of(whole)[0] == whole and sizes_of(whole)[1] >= whole
  array_bytes, temp_bytes = sizes_of(whole // 8)
  # The features, D wide, are the largest array left.
  assert array_bytes == 4 * max(B * T * D, B * T * V // 8)
  assert temp_bytes < sizes_of(whole)[1] - whole // 4


def test_targets_without_weight_do_not_matter():
  params, batch = draw()
  targets_BT = np.where(batch["weights_BT"] > 0, batch["targets_BT"], 10 * V)
  changed = batch | {"targets_BT": targets_BT.astype(np.int32)}
  assert_close(value_and_grad(params, changed), value_and_grad(params, batch), 0, 0)


def test_segments_reach_the_model():
  params, batch = draw()
  zeros = batch | {"segments_BT": np.zeros((B, T), np.int32)}
  loss, weight = next_token(apply, params, zeros, None, train=False)["loss"]
  assert_close(loss / weight, np.log(V))


def test_training_draws_from_the_key_and_evaluating_needs_none():
  params, batch = draw()

  def loss(key, train):
    return next_token(apply, params, batch, key, train=train)["loss"][0]

  keys = jax.random.key(1), jax.random.key(2)
  assert loss(keys[0], True) == loss(keys[0], True) != loss(keys[1], True)
  assert loss(None, False) == loss(keys[0], False)


def test_micro_batches_add_up_to_the_batch():
  params, batch = draw()
  sums = lambda part: next_token(apply, params, part, None, train=False)
  halves = [sums({k: v[i::2] for k, v in batch.items()}) for i in range(2)]
  assert_close(jax.tree.map(lambda a, b: a + b, *halves), sums(batch))


@pytest.mark.parametrize(
  "sizes, limit",
  list(
    itertools.product(
      [dict(fsdp=8), dict(data=2, fsdp=2, tensor=2), dict(tensor=2, context=4)],
      [2**28, 4 * T * V // 4],
    )
  ),
)
def test_sharded_equals_one_device(sizes, limit):
  params, batch = draw()
  expected = value_and_grad(params, batch)
  mesh = make_mesh(**sizes)
  with jax.set_mesh(mesh):
    params = jax.device_put(params, shardings(mesh, LETTERS, params))
    batch = jax.device_put(batch, batch_shardings(mesh, batch))
    assert_close(value_and_grad(params, batch, logits_bytes=limit), expected)


def test_the_limit_is_for_one_device():
  assert scoring._device_bytes((8, 16, 64)) == 4 * 8 * 16 * 64
  for sizes in dict(fsdp=8), dict(data=2, tensor=2, context=2):
    with jax.set_mesh(make_mesh(**sizes)):
      assert scoring._device_bytes((8, 16, 64)) == 4 * 16 * 64


def test_names_tell_the_shapes():
  params, batch = draw()
  seen_names = set()
  for limit in 2**28, 4 * B * T * V // 4:

    def run(params, limit=limit):
      key = jax.random.key(0)
      sums = next_token(apply, params, batch, key, logits_bytes=limit)
      return sums["loss"][0]

    with checked("lm/") as names:
      jax.eval_shape(jax.grad(run), params)
    seen_names |= names
  assert {name.split(":")[1] for name in seen_names} > {"token_sums", "pick"}, (
    seen_names
  )


def test_only_objectives_are_found_by_name():
  with pytest.raises(
    Mistake, match=r"found: cbow, classify, .*, next_token, "
  ) as error:
    lookup.function("lm.objectives", "x")
  listed = str(error.value).partition("found: ")[2].partition(" (")[0].split(", ")
  assert not {"scoring", "sides", "softmax", "windows", "word_pairs"} & set(listed)


@pytest.mark.parametrize(
  "name, option, hint",
  [
    ("reward", "beta", "take it out"),
    ("next_token", "z_los", "did you mean 'z_loss'?"),
  ],
)
def test_an_option_that_an_objective_lacks_is_named(name, option, hint):
  message = f"objective {name!r} has no option loss.{option}; {hint}"
  for function in (objectives.make, objectives.teaching):
    with pytest.raises(Mistake, match=re.escape(message)):
      function(name, {option: 0.1})
