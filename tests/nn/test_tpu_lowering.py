"""Lowering for a TPU on a machine without one: a step has no CPU form in it."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

import lm
from lm.letters import make_mesh
from lm.optim import Optim
from lm.train import build

installed = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="needs the TPU compiler: .venv/bin/python -m pip install libtpu",
)
FORMS = ("LayoutConstraint", "stablehlo.while")  # copies, and materialised arrays


def lowered(mesh, optimiser, **fields) -> str:
  """Returns the StableHLO of an update of llama-160m, unrolled, on the mesh."""
  fields = dict(preset="llama-160m", dtype="bfloat16", scan=False) | fields
  model = lm.model("decoder", vocab=32_000, **fields)
  shape = lambda dtype: jax.ShapeDtypeStruct((8, 256), dtype)
  batch = {"tokens_BT": shape(jnp.int32), "targets_BT": shape(jnp.int32)}
  batch["weights_BT"] = shape(jnp.float32)
  root = jax.random.key(0)  # before the mesh, whose devices do not exist
  trainer = build(model, "next_token", optimiser, mesh, batch=batch, num_steps=10)
  with jax.set_mesh(mesh):
    return trainer.step.lower(trainer.abstract, batch, root).as_text()


@installed
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_tpu_gets_no_form_of_a_cpu(name, monkeypatch):
  monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")  # there is no chip with metadata
  # Another process may have it too: there is no chip to lock.
  monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  options = dict(chips_per_host_bounds=(1, 1, 1), num_slices=1)
  topology = topologies.get_topology_desc("v5e:1x1", "tpu", **options)
  text = lowered(make_mesh(topology.devices), Optim(name))
  assert not [form for form in FORMS if form in text]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_cpu_gets_them(name):
  """Shows that the previous test looks for the right operations."""
  text = lowered(make_mesh(jax.devices()[:1]), Optim(name), layers=2)
  assert all(form in text for form in FORMS)
