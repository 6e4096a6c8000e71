"""Training step: the same update with micro-batches and on any mesh."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from families import FAMILIES, MESHES, VOCAB, tokens

from lm import lookup, optim, train, trees
from lm.errors import Mistake
from lm.letters import batch_shardings, make_mesh
from lm.objectives import scoring
from lm.objectives.next_token import next_token
from lm.rng import stream

B, T = 16, 8
ROOT = jax.random.key(7)


def batches(count, name, seed=0):
  """Yields batches for a family, with weights that differ from row to row."""
  draw = np.random.default_rng(seed)
  for index in range(count):
    ids_BT = tokens(B, T + 1, seed=index)
    weights_BT = draw.uniform(0, 1, (B, T)).astype(np.float32)
    yield {
      "tokens_BT": ids_BT[:, :-1],
      "targets_BT": ids_BT[:, 1:],
      "weights_BT": weights_BT,
    } | FAMILIES[name].inputs(B)


def trainer(name, mesh, *, accumulate=1, ema=0.0, optimiser="adamw", **fields):
  """Returns (init, abstract, step) of a family on a mesh."""
  model = FAMILIES[name].model(dropout=0.0, **fields)
  options = optim.Optim(optimiser, lr=1e-2, warmup=2, accumulate=accumulate, ema=ema)
  [batch] = batches(1, name)
  built = train.build(model, "next_token", options, mesh, batch=batch, num_steps=10)
  return built.init, built.abstract, built.step


def run(name, steps=3, sizes=None, **options):
  """Returns (state, losses) after some steps on a mesh of these sizes, as numpy."""
  sizes = sizes or {}
  count = int(np.prod(list(sizes.values()))) if sizes else 1
  mesh = make_mesh(jax.devices()[:count], **sizes)
  init, _, step = trainer(name, mesh, **options)
  state = init(stream(ROOT, "init"))
  losses = []
  with jax.set_mesh(mesh):
    for batch in batches(steps, name):
      batch = jax.device_put(batch, batch_shardings(mesh, batch))
      state, metrics = step(state, batch, ROOT)
      losses.append(float(metrics["train/loss"]))
  return jax.device_get(state), losses


@cache
def plain(name):
  return run(name)


def close(actual, expected, tolerance=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
    actual,
    expected,
  )


def assert_same_updates(first, second):
  """Checks that two results of `run` have equal losses and optimiser states.

  Parameters are not compared: Adam scales any gradient to the learning rate, also one
  that is only rounding, like that of a key's bias, which cancels in the softmax.
  """
  close(first[1], second[1])
  close(first[0].opt, second[0].opt)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_first_losses_are_those_of_before(name, golden):
  """To a thousandth: another compiler may round otherwise."""
  golden(f"{name}-losses", "\n".join(f"{loss:.3f}" for loss in run(name, steps=5)[1]))


# The gradients of every family on every mesh are in test_equalities.py; their use is
# the same for all families.
ON_MESHES = [
  (name, mesh)
  for name in ("gpt2", "llama", "moe")
  for mesh in FAMILIES[name].meshes[:2]
]


@pytest.mark.parametrize(("name", "mesh"), ON_MESHES)
def test_three_steps_on_a_mesh_equal_those_on_one_device(name, mesh):
  assert_same_updates(run(name, sizes=MESHES[mesh]), plain(name))


# Without experts, whose capacity and balance are per micro-batch.
@pytest.mark.parametrize(
  ("name", "mesh"), [("gpt2", ""), ("gpt2", "fsdp"), ("t5", ""), ("lstm", "")]
)
def test_micro_batches_equal_one_batch(name, mesh):
  assert_same_updates(run(name, accumulate=2, sizes=MESHES.get(mesh)), plain(name))


def test_a_batch_that_micro_batches_do_not_divide_is_refused():
  with pytest.raises(ValueError, match="accumulate=3 does not divide batch=16"):
    run(next(iter(FAMILIES)), accumulate=3)


@pytest.mark.parametrize("optimiser", list(lookup.functions("lm.optim")))
def test_every_leaf_of_the_state_keeps_its_sharding(optimiser, capfd):
  """Checks also that XLA reports no replication in between."""
  name = next(iter(FAMILIES))
  mesh = make_mesh(**MESHES["tensor"])
  init, abstract, step = trainer(name, mesh, ema=0.9, optimiser=optimiser)
  state = init(stream(ROOT, "init"))
  with jax.set_mesh(mesh):
    batch = next(batches(1, name))
    batch = jax.device_put(batch, batch_shardings(mesh, batch))
    step, messages = compiled(capfd, step, (abstract, batch, ROOT))
    new, _ = step(state, batch, ROOT)
  assert "rematerialization" not in messages
  for leaf, expected in zip(
    jax.tree.leaves(new), jax.tree.leaves(abstract), strict=True
  ):
    assert leaf.sharding.is_equivalent_to(expected.sharding, leaf.ndim)
    assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype)
  sharded = [x for x in jax.tree.leaves(new.params) if not x.is_fully_replicated]
  assert len(sharded) > len(jax.tree.leaves(new.params)) / 3


def test_compiled_ahead_of_time_it_gives_the_same_losses():
  """Compiles from shapes alone, before there is a state or a batch."""
  name, mesh = next(iter(FAMILIES)), make_mesh(jax.devices()[:1])
  init, abstract, step = trainer(name, mesh)
  batch_sharding = batch_shardings(mesh, next(batches(1, name)))
  shapes = trees.placed(jax.eval_shape(lambda: next(batches(1, name))), batch_sharding)
  ahead = step.lower(abstract, shapes, jax.eval_shape(lambda: ROOT)).compile()
  state, losses = init(stream(ROOT, "init")), []
  for batch in batches(3, name):
    state, metrics = ahead(state, jax.device_put(batch, batch_sharding), ROOT)
    losses.append(float(metrics["train/loss"]))
  close(losses, plain(name)[1])


def test_the_average_follows_the_parameters():
  name = next(iter(FAMILIES))
  state, _ = run(name, steps=1, ema=0.75)
  start = jax.device_get(
    trainer(name, make_mesh(jax.devices()[:1]))[0](stream(ROOT, "init"))
  )
  expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, start.params, state.params)
  close(state.ema, expected)


def test_metrics_are_those_of_the_optimiser():
  name = next(iter(FAMILIES))
  mesh = make_mesh(jax.devices()[:1])
  init, _, step = trainer(name, mesh)
  before = init(stream(ROOT, "init"))
  old = jax.device_get(before.params)
  [batch] = batches(1, name)
  after, metrics = step(before, batch, ROOT)
  moved = jax.tree.map(lambda a, b: a - b, jax.device_get(after.params), old)
  norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(moved)))
  np.testing.assert_allclose(metrics["train/update_norm"], norm, rtol=1e-4)
  assert abs(float(metrics["train/loss"]) - np.log(VOCAB)) < 1.5
  assert metrics["train/loss"] == metrics["train/nats_per_token"]
  assert 0 <= metrics["train/accuracy"] <= 1


SEEN = 48  # ids that the teacher knows: a number that the mesh divides


def teacher(apply, params, batch, key, *, given, train=True):
  """Objective: the squared distance of the logits to the given ones."""
  x_BTD = scoring.read(apply, params, batch, key, train).x_BTD
  logits_BTV = apply({"params": params}, x_BTD, method="readout")[..., :SEEN]
  error = jnp.sum((logits_BTV - given["logits_TV"][None]) ** 2)
  return {"loss": (error, jnp.float32(logits_BTV.size))}


def test_what_is_given_reaches_the_objective_and_is_no_constant():
  mesh = make_mesh(data=4, tensor=2)
  model = FAMILIES["llama"].model()
  [batch] = batches(1, "llama")
  batch = {"tokens_BT": batch["tokens_BT"]}
  given = {"logits_TV": np.random.default_rng(0).normal(size=(T, SEEN)) * 1.0}
  given = jax.tree.map(np.float32, given)
  built = train.build(
    model, teacher, optim.Optim(lr=1e-2), mesh, batch=batch, num_steps=3, given=given
  )
  state = built.init(stream(ROOT, "init"))
  assert state.saved().given == ()
  with jax.set_mesh(mesh):
    batch = jax.device_put(batch, batch_shardings(mesh, batch))
    text = built.step.lower(state, batch, ROOT).as_text()
    new, metrics = built.step(state, batch, ROOT)
  np.testing.assert_array_equal(new.given["logits_TV"], given["logits_TV"])
  assert not new.given["logits_TV"].sharding.is_fully_replicated
  assert 'dense<"0x' not in text  # a constant of the program would be written so
  assert np.isfinite(metrics["train/loss"])


def test_an_array_that_nobody_reads_or_that_is_missing_is_refused():
  model, [batch] = FAMILIES["llama"].model(), batches(1, "llama")
  refused = lambda batch: train.build(
    model, "next_token", optim.Optim(), batch=batch, num_steps=3
  )
  with pytest.raises(Mistake, match="nothing reads mood_BT of a batch: neither family"):
    refused(batch | {"mood_BT": batch["tokens_BT"]})
  with pytest.raises(Mistake, match="has types_BT, which family 'decoder' does not"):
    refused(batch | {"types_BT": batch["tokens_BT"]})
  del batch["weights_BT"]
  with pytest.raises(Mistake, match="reads weights_BT, which the batch lacks; it has"):
    refused(batch)


def test_an_optimiser_by_name_is_refused():
  model, [batch] = FAMILIES["llama"].model(), batches(1, "llama")
  with pytest.raises(Mistake, match="optimiser='muon'; wanted an"):
    train.build(model, "next_token", "muon", batch=batch, num_steps=3)


def test_positions_in_a_batch_reach_the_model():
  """Guards against ignored positions: shifted positions change the loss."""
  family, [batch] = FAMILIES["gpt2"], batches(1, "gpt2")
  model, params = family.model(), family.params()
  shifted_BT = np.broadcast_to(np.arange(T), (B, T)).astype(np.int32)

  def loss(**arrays):
    sums = next_token(model.apply, params, batch | arrays, None, train=False)
    return float(sums["loss"][0])

  assert loss(positions_BT=shifted_BT) == pytest.approx(loss(), rel=1e-6)
  assert loss(positions_BT=shifted_BT + 3) != pytest.approx(loss(), rel=1e-4)
