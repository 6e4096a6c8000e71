"""Every config in configs/ describes a run: whole it fits together, small it trains."""

import jax
import processes
import pytest
import shrink

from experiments import check, compose
from lm.letters import make_mesh

# What a prepared corpus would tell; any number does, as the model is only described.
VOCAB = 2048

each_config = pytest.mark.parametrize("name", shrink.names())


@each_config
def test_it_builds(name):
  cfg = shrink.config(name)
  model = compose.model(cfg, VOCAB)
  mesh = make_mesh(jax.devices()[:1])
  parts = compose.trainer(cfg, model, mesh)
  check.config(cfg, mesh)
  batch = compose.shapes(cfg)
  state, metrics = jax.eval_shape(parts.step, parts.abstract, batch, jax.random.key(0))
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(state) == shapes(parts.abstract)
  assert metrics["train/loss"].shape == ()


@each_config
def test_it_runs_two_steps_when_shrunk(name, tmp_path):
  flags = processes.flags(tmp_path / "run", processes.corpus(tmp_path))
  flags[0] = f"--config=tests/shrink.py:{name}"
  done = processes.run("train", *flags)
  assert done.code == 0, done.err
  assert [row["step"] for row in processes.metrics(tmp_path / "run")] == [1, 2, 2]


@each_config
def test_it_says_how_to_run_it(name):
  text = (shrink.CONFIGS / f"{name}.py").read_text()
  assert f"./launch.sh train --config=configs/{name}.py" in text
  assert len(text.splitlines()) <= 60
