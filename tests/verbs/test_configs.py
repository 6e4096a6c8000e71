"""Every config in configs/ describes a run: whole it fits together, small it trains."""

import jax
import processes
import pytest
import shrink

from experiments import config
from lm.data import row_shapes
from lm.data.loader import batch_shapes
from lm.train import compose
from lm.train.config import Experiment

# What a prepared corpus would say; any number does, as the model is only described.
VOCAB = 2048

each_config = pytest.mark.parametrize("name", shrink.names())


@each_config
def test_it_builds(name):
  experiment = Experiment.of(config.complete(shrink.config(name)).to_dict())
  plan = compose.plan(experiment, jax.devices()[:1])
  shapes = row_shapes(experiment.data, experiment.seq)
  batch = batch_shapes(shapes, batch=experiment.batch, mesh=plan.mesh)
  trainer = plan.trainer(plan.model(VOCAB), batch)
  state, metrics = jax.eval_shape(
    trainer.step, trainer.abstract, batch, jax.random.key(0)
  )
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert describe(state) == describe(trainer.abstract)
  assert metrics["train/loss"].shape == ()


@each_config
def test_it_runs_two_steps_when_shrunk(name, tmp_path):
  flags = processes.flags(tmp_path / "run", processes.corpus(tmp_path))
  flags[0] = f"--config=tests/shrink.py:{name}"
  done = processes.run("train", *flags)
  assert done.code == 0, done.err
  assert [row["step"] for row in processes.metrics(tmp_path / "run")] == [1, 2, 2]


@each_config
def test_it_says_how_to_run_it_and_is_short(name):
  text = (shrink.CONFIGS / f"{name}.py").read_text()
  assert f"./launch.sh train --config=configs/{name}.py" in text
  assert len(text.partition("from ml_collections")[2].splitlines()) <= 28
