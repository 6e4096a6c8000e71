"""Experts: routing and losses equal a loop, two forms agree, meshes, metrics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import letters as dims
from lm import models, objectives
from lm.letters import batch_shardings, make_mesh, shardings, spec, unbox
from lm.nn.experts import Experts, Feed, Traffic, traffic
from lm.objectives.next_token import next_token

B, T, D, F, E, J = 2, 12, 16, 24, 4, 2
KEY = jax.random.key(0)
FEED = Feed(ff=F, experts=E, top_k=J)


def layer(feed=FEED):
  return Experts(feed=feed, dtype="float32", scale=1.0)


@pytest.fixture(scope="module")
def params():
  drawn = unbox(layer().init(jax.random.key(0), x_BTD(), Traffic())["params"])
  return jax.tree.map(lambda w: 2 * w, drawn)


def x_BTD():
  return np.random.default_rng(1).standard_normal((B, T, D), np.float32)


def run(params, feed=FEED, drops=True, real_BT=None):
  apply = jax.jit(
    lambda p, x: layer(feed).apply({"params": p}, x, Traffic(real_BT, drops))
  )
  return apply(params, x_BTD())


def token_reference(params, x_D):
  """Returns (output, experts by probability, probabilities, log Z) of one token."""
  logits_E = x_D @ params["router"]
  probs_E = np.exp(logits_E) / np.exp(logits_E).sum()
  best_J = np.argsort(-probs_E)[:J]
  y_D = 0
  for e in best_J:
    gate_F, up_F = x_D @ params["gate"][e], x_D @ params["up"][e]
    h_F = gate_F / (1 + np.exp(-gate_F)) * up_F
    y_D += probs_E[e] / probs_E[best_J].sum() * (h_F @ params["down"][e])
  return y_D, best_J, probs_E, math.log(np.exp(logits_E).sum())


def test_a_layer_equals_the_formulas_of_the_papers(params):
  y_BTD, means = run(params)
  tokens = [
    token_reference(jax.device_get(params), x_D) for x_D in x_BTD().reshape(-1, D)
  ]
  outs, chosen, probs, log_zs = map(np.array, zip(*tokens, strict=True))
  np.testing.assert_allclose(y_BTD.reshape(-1, D), outs, atol=1e-4, rtol=1e-4)
  used_E = np.bincount(chosen.reshape(-1), minlength=E) / len(tokens)
  balance = E * (used_E * probs.mean(0)).sum()
  np.testing.assert_allclose(means["balance"], balance, rtol=1e-4)
  np.testing.assert_allclose(means["router_z"], (log_zs**2).mean(), rtol=1e-4)
  assert means["dropped_share"] == 0


def test_padding_goes_nowhere_and_counts_for_nothing(params):
  """Covers a capacity of which every place is needed by a real token."""
  real_BT = np.arange(T)[None] < np.array([[T], [5]])
  x = np.where(real_BT[..., None], x_BTD(), np.nan)
  for feed in (FEED, Feed(ff=F, experts=E, top_k=J, capacity=E / J)):
    apply = lambda x, real, feed=feed: layer(feed).apply(
      {"params": params}, x, Traffic(real, drops=True)
    )
    actual_BTD, _ = apply(np.where(real_BT[..., None], x, 9.0), real_BT)
    full_BTD, _ = run(params)
    np.testing.assert_allclose(actual_BTD[real_BT], full_BTD[real_BT], atol=1e-5)
    assert not np.any(np.asarray(actual_BTD)[~real_BT])
  _, means = apply(np.where(real_BT[..., None], x, 9.0), real_BT)
  _, other_means = apply(np.where(real_BT[..., None], x, -9.0), real_BT)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), means, other_means
  )
  positions_BT, segments_BT = np.array([[0, -1, 2, 3]]), np.array([[1, 1, 1, 0]])
  masks = traffic(positions_BT, segments_BT, train=True)
  np.testing.assert_array_equal(masks.real_BT, [[1, 0, 1, 0]])


def test_places_for_all_give_what_dropless_gives(params, monkeypatch):
  """Compares values and gradients, also of the TPU form; E / J drops nothing."""

  def loss(params, feed):
    y_BTD, means = layer(feed).apply({"params": params}, x_BTD(), Traffic(drops=True))
    weights_D = np.arange(1, D + 1) / D
    return jnp.sum(jnp.sin(y_BTD) @ weights_D) + means["balance"] + means["router_z"]

  step = lambda feed: jax.jit(jax.value_and_grad(lambda p: loss(p, feed)))(params)
  roomy = Feed(ff=F, experts=E, top_k=J, capacity=E / J)
  every, places = step(FEED), step(roomy)
  monkeypatch.setattr("lm.platform.target", lambda: "tpu")
  for actual in (places, step(FEED)):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4, rtol=1e-4), actual, every
    )


def test_what_finds_no_place_is_dropped_and_counted(params):
  """Checks the order: first choices, then earlier tokens; evaluation drops nothing."""
  feed = Feed(ff=F, experts=E, top_k=J, capacity=0.5)
  places = math.ceil(0.5 * J * T / E)
  actual_BTD, means = run(params, feed)
  weights, dropped = jax.device_get(params), 0
  for b in range(B):
    references = [token_reference(weights, x_D) for x_D in x_BTD()[b]]
    free, placed = dict.fromkeys(range(E), places), set()
    for j in range(J):
      for t in range(T):
        e = int(references[t][1][j])
        if free[e]:
          free[e] -= 1
          placed.add((t, j))
        else:
          dropped += 1
    for t in range(T):
      is_whole = all((t, j) in placed for j in range(J))
      is_dropped = not any((t, j) in placed for j in range(J))
      if is_whole:
        np.testing.assert_allclose(
          actual_BTD[b, t], references[t][0], atol=1e-4, rtol=1e-4
        )
      if is_dropped:
        np.testing.assert_array_equal(actual_BTD[b, t], 0)
  assert 0 < dropped < B * T * J
  np.testing.assert_allclose(means["dropped_share"], dropped / (B * T * J), rtol=1e-6)
  assert run(params, feed, drops=False)[1]["dropped_share"] == 0


@pytest.mark.parametrize("capacity, platform", [(0, "cpu"), (0, "tpu"), (1, "tpu")])
def test_experts_on_a_mesh_equal_one_device(capacity, platform, monkeypatch):
  """Compares loss, gradients and metrics; 8 experts over expert=4, top_k=2."""
  fields = dict(experts=8, capacity=float(capacity), balance=1.0, router_z=0.1)
  fields |= dict(backend="xla", layers=1)
  model, params = (
    build(**fields) for build in (FAMILIES["moe"].model, FAMILIES["moe"].params)
  )
  ids_BT = tokens(8, 10)
  batch = {"tokens_BT": ids_BT, "targets_BT": ids_BT, "weights_BT": np.ones((8, 10))}

  def loss(params, batch):
    sums = next_token(model.apply, params, batch, KEY)
    return sums["loss"][0], sums

  step = jax.value_and_grad(loss, has_aux=True)
  expected = jax.jit(step)(params, batch)
  assert (expected[0][1]["dropped_share"][0] > 0) == (capacity > 0)
  mesh = make_mesh(fsdp=2, expert=4)
  abstract, letters = dims.abstract(model, ids_BT)
  param_shardings = shardings(mesh, letters, abstract)
  assert spec("LEDF") == jax.sharding.PartitionSpec(None, "expert", "fsdp", "tensor")
  monkeypatch.setattr("lm.platform.target", lambda: platform)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, param_shardings)
    rows = jax.device_put(batch, batch_shardings(mesh, batch))
    actual = jax.jit(step, out_shardings=(None, param_shardings))(placed, rows)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5, rtol=2e-5),
    actual,
    expected,
  )


def test_losses_are_added_when_training_and_only_then():
  family, ids_BT = FAMILIES["moe"], tokens(2, 8)
  batch = {"tokens_BT": ids_BT, "targets_BT": ids_BT, "weights_BT": np.ones((2, 8))}

  fields = dict(balance=0.5, router_z=0.25, layers=1)
  model, params = family.model(**fields), family.params(**fields)

  def totals(train):
    run = lambda p: next_token(model.apply, p, batch, KEY, train=train)
    return jax.jit(run)(params)

  trained = totals(True)
  auxiliary = 0.5 * trained["balance"][0] + 0.25 * trained["router_z"][0]
  nats, weight = trained["nats_per_token"]
  np.testing.assert_allclose(trained["loss"][0] - nats, auxiliary, rtol=1e-3)
  assert 2 <= trained["balance"][0] / weight <= 4
  assert trained["dropped_share"][0] == 0
  evaluated = totals(False)
  assert set(evaluated) == {"loss", "nats_per_token", "accuracy"}
  np.testing.assert_allclose(evaluated["loss"][0], nats, rtol=1e-6)


@pytest.mark.parametrize("name", ["next_token", "masked_lm"])
def test_auxiliary_losses_reach_every_objective(name):
  family, ids_BT = FAMILIES["moe"], tokens(2, 8)
  batch = {"tokens_BT": ids_BT, "targets_BT": ids_BT, "weights_BT": np.ones((2, 8))}
  model, params = family.model(layers=1), family.params(layers=1)
  objective, _ = objectives.make(name)
  sums = jax.jit(lambda p: objective(model.apply, p, batch, KEY))(params)
  assert sums["loss"][0] > sums["nats_per_token"][0] and "balance" in sums


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(experts=4, top_k=5), "top_k=5; wanted 1 to experts=4"),
    (dict(experts=4, bias=True), "bias with experts"),
    (dict(experts=4, capacity=-1.0), "capacity=-1.0; wanted 0 or more"),
  ],
)
def test_what_makes_no_sense_is_one_clear_line(fields, message):
  with pytest.raises(ValueError, match=message):
    models.build("decoder", vocab=11, width=16, heads=2, **fields)
