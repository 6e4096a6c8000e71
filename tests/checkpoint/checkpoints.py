"""States of every dtype, folders of checkpoints of them, and a comparison of bits."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from lm.checkpoint import Checkpoints

ABOUT = {"config": {"seed": 0}, "data": "abc", "versions": {"jax": jax.__version__}}


@struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt: tuple
  ema: dict | None


def make_state(seed=0, width=8, ema=False):
  """Returns a State of every dtype, with nested named tuples and a scalar."""
  rng = np.random.default_rng(seed)
  params = {
    "embed": rng.normal(size=(16, width)).astype(np.float32),
    "blocks": {
      "q": rng.normal(size=(2, width, width)).astype(jnp.bfloat16),
      "scale": np.array([-0.0, np.nan, np.inf], np.float32),
      "ids": rng.integers(1 << 32, size=(8, 8), dtype=np.uint32),
    },
  }
  moments = optax.ScaleByAdamState(
    count=np.int32(seed), mu=params["blocks"], nu=optax.MaskedNode()
  )
  opt = (optax.EmptyState(), (moments, optax.EmptyState()))
  state = State(
    np.int32(seed), params, opt, {"embed": params["embed"]} if ema else None
  )
  return jax.tree.map(jnp.asarray, state)


def abstract_of(tree, shard=lambda leaf: None):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shard(x)), tree
  )


def assert_same_bits(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def saved(folder, steps, *, keep=9, scores=None, **options):
  """Writes a checkpoint of `make_state(step)` for each of `steps`; returns `folder`."""
  with Checkpoints(folder, keep=keep) as checkpoints:
    for step in steps:
      score = scores[step] if scores else None
      checkpoints.save(step, make_state(step, **options), about=ABOUT, score=score)
  return folder


def words(folder):
  return sorted(path.name for path in Path(folder).iterdir())


def save_forever(folder):
  """Saves until it is killed; prints "saving" each time a save has begun."""
  checkpoints = Checkpoints(folder, keep=2)
  step = max(checkpoints.steps(), default=0)
  while True:
    step += 1
    about = {"step": step}
    checkpoints.save(step, make_state(step), about=about, score=step % 5)
    print("saving", flush=True)


if __name__ == "__main__":
  save_forever(sys.argv[1])
