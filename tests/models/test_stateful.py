"""Truncated back-propagation: a state that goes on with its rows, however it is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
import shrink
from families import FAMILIES, tokens

from experiments import check
from lm import letters as dims
from lm import objectives, optim, train
from lm.letters import batch_shardings, make_mesh
from lm.rng import stream

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
  """The batch of `long_batch`, T tokens of every row at a time."""
  for start in range(0, T * STEPS, T):
    yield {key: x[:, start : start + T] for key, x in long_batch().items()}


@pytest.mark.parametrize("name", NAMES)
def test_pieces_of_rows_add_up_to_the_rows(name):
  model, params = FAMILIES[name].model(), FAMILIES[name].params()
  run = jax.jit(
    lambda batch: objectives.next_token(model.apply, params, batch, None, train=False)
  )
  wanted, weight, _ = run(long_batch())
  carry, total, weights = model.init_cache(B, 0).carried(), 0.0, 0.0
  for piece in pieces():
    loss, weight_of, aux = run(piece | {"carry": carry})
    carry, total, weights = aux["carry"], total + loss, weights + weight_of
  np.testing.assert_allclose((total, weights), (wanted, weight), rtol=1e-5)
  assert {x.shape[0] for x in carry.values()} == {B}


def steps(name, sizes=None, **how):
  """(state, losses) after the pieces, on the mesh of these sizes."""
  sizes = sizes or {"data": 1}
  mesh = make_mesh(jax.devices()[: int(np.prod(list(sizes.values())))], **sizes)
  model, tokens_BT = FAMILIES[name].model(layers=1), jnp.zeros((1, T), jnp.int32)
  shapes, letters = dims.abstract(model, tokens_BT)
  options = optim.Optim("adamw", lr=1e-2, schedule="constant", warmup=1, decay=0.0)
  tx, schedule = optim.make(options, num_steps=9, params=shapes, letters=letters)
  init, abstract = train.state_maker(model, tx, mesh, tokens_BT, carried=B)
  step = train.make_step(
    *(model.apply, objectives.next_token, tx),
    schedule=schedule,
    abstract=abstract,
    **how,
  )
  state, losses = init(stream(ROOT, "init")), []
  with jax.set_mesh(mesh):
    for batch in pieces():
      batch = jax.device_put(batch, batch_shardings(mesh, batch))
      state, metrics = step(state, batch, ROOT)
      losses.append(float(metrics["train/loss"]))
  for leaf, born in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
    assert leaf.sharding.is_equivalent_to(born.sharding, leaf.ndim)
  return state, losses


def test_micro_batches_on_a_mesh_carry_the_same_state():
  state, losses = steps("lstm")
  other, other_losses = steps("lstm", dict(data=2, fsdp=2), accumulate=2)
  np.testing.assert_allclose(other_losses, losses, rtol=1e-5)
  for key, x in state.carry.items():
    np.testing.assert_allclose(other.carry[key], x, rtol=1e-4, atol=1e-5)
    assert other.carry[key].sharding.spec[0] == ("data", "fsdp")


def test_a_run_that_was_stopped_goes_on_with_its_state(tmp_path):
  text = processes.corpus(tmp_path)

  def run(name, num_steps):
    values = dict(num_steps=num_steps, model__dropout=0.1, mesh__fsdp=2)
    values |= dict(optim__accumulate=2, optim__schedule="constant", checkpoint__every=3)
    flags = processes.flags(tmp_path / name, text, **values)
    flags[0] = "--config=tests/shrink.py:family/lstm"
    done = processes.run("train", *flags, devices=2)
    assert done.code == 0, done.err

  run("cut", 3)
  run("cut", 5)
  run("whole", 5)
  ours, theirs = (processes.leaves(tmp_path / name, 5) for name in ("cut", "whole"))
  assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
  assert np.std(theirs["['carry']['h_BLD']"]) > 0


@pytest.mark.parametrize(
  "changes", [dict(family="decoder", preset="llama_tiny"), dict(family="encoder")]
)
def test_a_model_without_a_state_is_refused(changes):
  cfg = shrink.config("family/lstm")
  with cfg.unlocked():
    cfg.model = dict(changes)
  with pytest.raises(ValueError, match="carries a recurrent state"):
    check.config(cfg, make_mesh(jax.devices()[:1]))
