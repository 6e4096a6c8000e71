"""Trees by path: descriptions, and the first leaf in which two differ."""

import jax.numpy as jnp
import numpy as np

from lm import trees

TREE = {"params": {"w": np.zeros((2, 3), np.float32)}, "step": np.int32(0), "opt": ()}


def test_a_tree_is_described_by_dtype_and_shape():
  expected = {"params/w": "float32[2,3]", "step": "int32[]"}
  assert trees.describe(TREE) == expected
  assert trees.by_field(TREE) == {"params": {"w": TREE["params"]["w"]}, "step": {"": 0}}


def test_the_first_difference_is_one_line():
  described, changed = (
    trees.describe(TREE),
    trees.describe(TREE | {"step": jnp.zeros(4)}),
  )
  assert trees.differs(described, described) == ""
  line = "step is int32[] in it, float32[4] was wanted"
  assert trees.differs(described, changed) == line
  assert trees.differs({}, described).startswith(
    "params/w is absent in it, float32[2,3]"
  )
  assert trees.is_under("params/w", "params") and not trees.is_under(
    "params2", "params"
  )
