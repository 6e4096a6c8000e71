"""Checkpoints: restored bits on any mesh, which steps are kept, one-line mistakes."""

import shutil

import jax
import numpy as np
import pytest
from checkpoints import ABOUT, abstract_of, assert_same_bits, make_state, saved, words

from lm.checkpoint import Checkpoints
from lm.letters import make_mesh, sharding

# round trips


def test_restores_every_bit_and_the_notes(tmp_path):
  expected = make_state(3, ema=True)
  with Checkpoints(tmp_path / "new" / "checkpoints", keep=2) as checkpoints:
    assert checkpoints.steps() == []
    checkpoints.save(3, expected, about=ABOUT)
    actual, step, about = checkpoints.restore(
      abstract_of(expected)
    )  # waits for the save
  assert (step, about) == (3, ABOUT)
  assert_same_bits(actual, expected)


def test_donating_right_after_save_changes_nothing(tmp_path):
  # Random, and big enough that it is still being written when the next step runs.
  keys = jax.random.split(jax.random.key(0), 4)
  state = {
    "params": {f"w{i}": jax.random.normal(k, (1 << 20,)) for i, k in enumerate(keys)}
  }
  expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
  step = jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s), donate_argnums=0)
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, state, about={})
    for _ in range(3):
      state = step(state)
    jax.block_until_ready(state)
    assert checkpoints._pending is not None
    actual, _, _ = checkpoints.restore(abstract_of(state))
  assert_same_bits(actual, expected)


MESHES = (
  {},
  {"fsdp": 8},
  {"data": 2, "fsdp": 2, "tensor": 2},
  {"data": 2},
  {"fsdp": 2, "tensor": 2},
)


@pytest.mark.parametrize("target", MESHES, ids=str)
@pytest.mark.parametrize("start", MESHES[:3], ids=str)
def test_restores_onto_any_other_mesh(tmp_path, start, target):
  names = {1: "D", 2: "VD", 3: "LDF"}

  def shard_on(sizes):
    n = int(np.prod(list(sizes.values())))
    mesh = make_mesh(jax.devices()[:n], **sizes)
    return lambda x: sharding(mesh, names.get(x.ndim, ""))

  expected = make_state(1, width=16)
  placed = jax.tree.map(lambda x: jax.device_put(x, shard_on(start)(x)), expected)
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, placed, about={})
    actual, _, _ = checkpoints.restore(abstract_of(expected, shard_on(target)))
  assert_same_bits(actual, expected)
  for leaf in jax.tree.leaves(actual):
    assert leaf.sharding == shard_on(target)(leaf)


def test_params_alone_need_no_optimiser(tmp_path):
  saved(tmp_path, [1, 2], ema=True)
  expected = make_state(2, ema=True)
  for path in (tmp_path / "2" / "state" / "opt").rglob("*"):
    if path.is_file():
      path.unlink()
  reader = Checkpoints(tmp_path, owned=False)
  params, step, about = reader.restore_params(abstract_of(expected.params))
  assert (step, about) == (2, ABOUT)
  assert_same_bits(params, expected.params)
  ema, _, _ = reader.restore_params(abstract_of(expected.ema), field="ema")
  assert_same_bits(ema, expected.ema)


# retention


def test_keeps_the_newest_and_the_best(tmp_path):
  scores = {1: 5.0, 2: 1.0, 3: float("nan"), 4: 3.0, 5: None, 6: 2.0}
  saved(tmp_path, scores, keep=2, scores=scores)
  assert words(tmp_path) == ["2", "5", "6"]
  saved(tmp_path, [7, 8], keep=2, scores={7: 0.5, 8: 4.0})  # a later process
  assert words(tmp_path) == ["7", "8"]
  saved(tmp_path, [9, 10], keep=1)
  assert words(tmp_path) == ["10", "7"]


def test_a_step_that_exists_is_left_alone(tmp_path):
  saved(tmp_path, [1])
  before = (tmp_path / "1" / "SHA256SUMS").stat().st_mtime_ns
  saved(tmp_path, [1])
  assert (tmp_path / "1" / "SHA256SUMS").stat().st_mtime_ns == before


def test_start_cleans_what_a_kill_left_unless_it_only_reads(tmp_path):
  saved(tmp_path, [1])
  for name in ("2.saving", "0.deleting", "7.damaged", "notes"):
    shutil.copytree(tmp_path / "1", tmp_path / name)
  before = words(tmp_path)
  assert Checkpoints(tmp_path, owned=False).steps() == [1]
  assert words(tmp_path) == before
  Checkpoints(tmp_path)
  assert words(tmp_path) == ["1", "7.damaged", "notes"]


# mistakes


def test_mistakes_are_one_line(tmp_path):
  state = make_state()
  empty = Checkpoints(tmp_path / "empty", owned=False)
  assert empty.steps() == [] and not (tmp_path / "empty").exists()
  with pytest.raises(ValueError, match=r"no checkpoint in .*train first"):
    empty.restore(abstract_of(state))
  saved(tmp_path / "a", [1, 2])
  reader = Checkpoints(tmp_path / "a", owned=False, say=str)
  with pytest.raises(ValueError, match=r"no checkpoint 9 in .*; found: 1, 2$"):
    reader.restore(abstract_of(state), 9)
  wider = abstract_of(make_state(width=16))
  with pytest.raises(
    ValueError, match=r"blocks/q is bfloat16\[2,8,8\] in it, bfloat16"
  ):
    reader.restore_params(wider.params)
  with pytest.raises(ValueError, match=r"ema/.* is absent in it.*use the config"):
    reader.restore(abstract_of(make_state(ema=True)))
  with pytest.raises(ValueError, match=r"opt/.* is .* in it, absent was wanted"):
    reader.restore(abstract_of(state.replace(opt=())))
  for step in (1, 2):
    (tmp_path / "a" / str(step) / "checkpoint.json").write_text("{}")
  with pytest.raises(
    ValueError, match=r"no good checkpoint .*checkpoint.json has chang"
  ):
    reader.restore(abstract_of(state), 2)
  with pytest.raises(ValueError, match=r"no good checkpoint in .*\(2: .*; 1: .*\)$"):
    reader.restore(abstract_of(state))
  with pytest.raises(ValueError, match=r"keep must be at least 1, got 0"):
    Checkpoints(tmp_path, keep=0)


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"cannot keep checkpoints in .*Not a directory"):
    Checkpoints(tmp_path / "file" / "checkpoints")
