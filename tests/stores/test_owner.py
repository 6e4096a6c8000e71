"""The owner of a run's folder: one at a time, and no folder for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from lm import models
from lm.letters import abstract
from lm.stores.run import RunFolder


def test_a_folder_has_one_owner_who_may_own_it_again(tmp_path):
  path = tmp_path / "new" / "run"
  folder = RunFolder(path)
  with folder.owned():
    with folder.owned():
      pass
    line = (
      rf"{path} belongs to process \d+ on .* since .*; wait until it ends, or choose"
    )
    with pytest.raises(ValueError, match=line), RunFolder(path).owned():
      pass
    assert path.is_dir()
  with RunFolder(path).owned():
    pass
  assert list(path.iterdir()) == []


def test_an_error_leaves_no_new_folder_that_is_empty(tmp_path):
  folder = RunFolder(tmp_path / "run")
  with pytest.raises(KeyError), folder.owned():
    folder.checkpoints.mkdir()
    raise KeyError
  assert list(tmp_path.iterdir()) == []
  folder.checkpoints.mkdir(parents=True)
  with pytest.raises(KeyError), folder.owned():
    raise KeyError
  assert folder.checkpoints.is_dir()
  folder.checkpoints.rmdir()
  with pytest.raises(KeyError), folder.owned():
    (folder.path / "metrics.jsonl").touch()
    raise KeyError
  assert folder.metrics_file.exists()


def test_saving_where_a_run_is_going_on_is_refused(tmp_path):
  model = models.build(family="decoder", width=8, layers=1, heads=1, vocab=258)
  shapes, _ = abstract(model, np.zeros((1, 2), np.int32))
  params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  with RunFolder(tmp_path / "run").owned():
    with pytest.raises(ValueError, match=r"run belongs to process \d+ on"):
      lm.save(tmp_path / "run", model, params, None)
    lm.save(tmp_path / "other", model, params, None)
  lm.save(tmp_path / "run", model, params, None)
  assert lm.load(tmp_path / "run")[0] == model
