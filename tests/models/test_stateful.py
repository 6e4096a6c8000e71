"""Truncated back-propagation: the state of a row continues in the next batch."""

import jax
import numpy as np
import processes
import pytest
import shrink
from families import FAMILIES, tokens

from experiments import config
from lm import optim, train
from lm.errors import Mistake
from lm.letters import batch_shardings, make_mesh
from lm.objectives.next_token import next_token
from lm.rng import stream
from lm.train import compose
from lm.train.config import Experiment

B, T, STEPS = 8, 5, 3
ROOT = jax.random.key(7)
NAMES = ["lstm", "gru"]


def long_batch():
  ids_BT = np.concatenate([tokens(B, T, seed=s) for s in range(STEPS)], axis=1)
  return {
    "tokens_BT": ids_BT,
    "targets_BT": np.roll(ids_BT, -1, axis=1),
    "weights_BT": np.random.default_rng(0).random(ids_BT.shape, np.float32),
  }


def pieces():
  """Yields `long_batch` in batches of T tokens of every row."""
  for start in range(0, T * STEPS, T):
    yield {key: x[:, start : start + T] for key, x in long_batch().items()}


@pytest.mark.parametrize("name", NAMES)
def test_pieces_of_rows_add_up_to_the_rows(name):
  model, params = FAMILIES[name].model(), FAMILIES[name].params()
  run = jax.jit(lambda batch: next_token(model.apply, params, batch, None, train=False))
  expected = run(long_batch())["loss"]
  carry, total = model.init_cache(B, 0).carried(), np.zeros(2)
  for piece in pieces():
    sums = run(piece | {"carry": carry})
    carry, total = sums["carry"], total + np.array(sums["loss"])
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  assert {x.shape[0] for x in carry.values()} == {B}


def steps(name, sizes=None, accumulate=1):
  """Returns (state, losses) after training on `pieces`, on a mesh of these sizes."""
  sizes = sizes or {"data": 1}
  mesh = make_mesh(jax.devices()[: int(np.prod(list(sizes.values())))], **sizes)
  options = optim.Optim(
    "adamw", lr=1e-2, schedule="constant", warmup=1, decay=0.0, accumulate=accumulate
  )
  init, abstract, _, step, *_ = train.build(
    FAMILIES[name].model(layers=1),
    next_token,
    options,
    mesh,
    batch=next(pieces()),
    num_steps=9,
    carries=True,
  )
  state, losses = init(stream(ROOT, "init")), []
  with jax.set_mesh(mesh):
    for batch in pieces():
      batch = jax.device_put(batch, batch_shardings(mesh, batch))
      state, metrics = step(state, batch, ROOT)
      losses.append(float(metrics["train/loss"]))
  for leaf, planned in zip(
    jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True
  ):
    assert leaf.sharding.is_equivalent_to(planned.sharding, leaf.ndim)
  return state, losses


def test_micro_batches_on_a_mesh_carry_the_same_state():
  state, losses = steps("lstm")
  on_mesh, mesh_losses = steps("lstm", dict(data=2, fsdp=2), accumulate=2)
  np.testing.assert_allclose(mesh_losses, losses, rtol=1e-5)
  for key, x in state.carry.items():
    np.testing.assert_allclose(on_mesh.carry[key], x, rtol=1e-4, atol=1e-5)
    assert on_mesh.carry[key].sharding.spec[0] == ("data", "fsdp")


def test_a_run_that_was_stopped_goes_on_with_its_state(tmp_path):
  text = processes.corpus(tmp_path)

  def run(name, num_steps):
    values = dict(num_steps=num_steps, model__dropout=0.1, mesh__fsdp=2)
    values |= dict(optim__accumulate=2, optim__schedule="constant", checkpoint__every=3)
    flags = processes.flags(tmp_path / name, text, **values)
    flags[0] = "--config=tests/shrink.py:family/lstm"
    result = processes.run("train", *flags, devices=2)
    assert result.code == 0, result.err

  run("cut", 3)
  run("cut", 5)
  run("whole", 5)
  actual, expected = (processes.leaves(tmp_path / name, 5) for name in ("cut", "whole"))
  assert all(actual[name].tobytes() == expected[name].tobytes() for name in expected)
  assert np.std(expected["['carry']['h_BLD']"]) > 0


@pytest.mark.parametrize(
  "changes", [dict(family="decoder", preset="llama_tiny"), dict(family="encoder")]
)
def test_a_model_without_a_state_is_refused(changes):
  cfg = shrink.config("family/lstm")
  cfg.model = dict(changes)
  experiment = Experiment.of(config.complete(cfg).to_dict())
  with pytest.raises(Mistake, match="carries a recurrent state"):
    compose.plan(experiment, jax.devices()[:1])
