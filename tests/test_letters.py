"""Alphabet, meshes and shardings; a mistake with a mesh is one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled, shapes
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from lm import trees
from lm.letters import (
  AXES,
  RULES,
  abstract,
  batch_shardings,
  constrain,
  constrain_to,
  make_mesh,
  sharding,
  shardings,
  spec,
  state_dims,
  suffix,
  unbox,
  weight,
)


@pytest.mark.parametrize(
  "letters, expected",
  [
    ("BTD", P(("data", "fsdp"), "context", None)),
    ("BTV", P(("data", "fsdp"), "context", "tensor")),
    ("BTNH", P(("data", "fsdp"), "context", "tensor", None)),
    ("BSKH", P(("data", "fsdp"), None, "tensor", None)),
    ("LDNH", P(None, "fsdp", "tensor", None)),
    ("LNHD", P(None, "tensor", None, "fsdp")),
    ("VD", P("tensor", "fsdp")),
    ("LEDF", P(None, "expert", "fsdp", "tensor")),
    ("D", P()),
    ("LD", P()),
    ("LNH", P(None, "tensor", None)),
    ("", P()),
  ],
)
def test_a_letter_has_its_mesh_axes(letters, expected):
  assert spec(letters) == expected


def test_no_axis_is_used_twice():
  letters = [letter for letter, _ in RULES] + ["L", "H"]
  for first in letters:
    for second in set(letters) - {first}:
      axes = [a for a in spec(first + second) if a]
      flat = [b for a in axes for b in (a if isinstance(a, tuple) else (a,))]
      assert len(flat) == len(set(flat))


def test_mesh_has_all_axes_and_fills_the_free_one():
  mesh = make_mesh(fsdp=-1, tensor=2)
  assert mesh.axis_names == AXES
  assert dict(mesh.shape) == dict.fromkeys(AXES, 1) | dict(fsdp=4, tensor=2)


@pytest.mark.parametrize(
  "sizes, message",
  [
    (dict(tensor=3, data=-1), "does not fit 8 devices"),
    (dict(data=4), "data=4, fsdp=1.*does not fit 8 devices"),
    (dict(data=-1, fsdp=-1), "one axis -1"),
    (dict(data=0), "does not fit"),
    (dict(data=4, stage=2), "stage=2: there are no pipeline stages yet; use data"),
    (dict(stage=-1), "stage=8: there are no pipeline stages yet"),
    (dict(model=8), "unknown mesh axis 'model'; the axes are data, fsdp"),
  ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(**sizes)


def test_suffixes_and_batches():
  names = ["tokens_BT", "x_BTD", "tokens", "loss_sum", "a_b_BT", "_"]
  assert [suffix(n) for n in names] == ["BT", "BTD", "", "", "BT", ""]
  mesh = make_mesh(data=8)
  placements = batch_shardings(mesh, {"tokens_BT": 0, "weights_BT": 0})
  assert placements["tokens_BT"] == sharding(mesh, "BT")


class Table(nn.Module):
  rows: int

  @nn.compact
  def __call__(self):
    return weight(self, "table", "VD", (self.rows, 4), nn.initializers.ones)


def test_weights_are_made_with_their_letters():
  plain, letters = abstract(Table(6))
  assert plain["table"] == jax.ShapeDtypeStruct((6, 4), np.float32)
  assert letters == {"table": "VD"}
  real = unbox(Table(6).init(jax.random.key(0)))["params"]
  assert isinstance(real["table"], jax.Array)


def test_shardings_name_what_cannot_be_split():
  mesh = make_mesh(tensor=4, fsdp=2)
  plain, letters = abstract(Table(8))
  table_sharding = shardings(mesh, letters, plain)["table"]
  assert table_sharding.spec == P("tensor", "fsdp")
  placed = trees.placed(plain, {"table": table_sharding})["table"]
  assert placed.sharding == table_sharding and placed.shape == (8, 4)
  plain, letters = abstract(Table(6))
  with pytest.raises(ValueError, match="table has V=6, which mesh tensor=4 does not"):
    shardings(mesh, letters, plain)


def test_experts_are_not_split_where_there_are_none():
  plain, letters = abstract(Table(8))
  with pytest.raises(ValueError, match="mesh expert=2 splits experts, and the model"):
    shardings(make_mesh(data=4, expert=2), letters, plain)


def test_optimiser_state_is_found_by_path_and_shape():
  params = {"a": {"w": np.zeros((2, 3))}, "w": np.zeros((4,))}
  letters = {"a": {"w": "DF"}, "w": "D"}
  state = {
    "mu": params,
    "count": np.zeros(()),
    "row": {"a": {"w": np.zeros((2,))}, "w": np.zeros((4,))},
  }
  assert state_dims(state, (params, letters)) == {
    "mu": letters,
    "count": "",
    "row": {"a": {"w": ""}, "w": "D"},
  }


def test_constraining_does_nothing_without_a_mesh():
  x_BTD = jnp.ones((3, 5, 7))
  assert constrain(x_BTD, "BTD") is x_BTD
  mesh = make_mesh(jax.devices()[:1])
  with jax.set_mesh(mesh):
    assert constrain(x_BTD, "BTD") is x_BTD


def test_a_gather_and_a_whole_batch_are_noticed(capfd):
  """Compiles a gather that moves the table, and a batch whole on every device."""
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  table_VD, tokens_BT = np.ones((128, 32), np.float32), np.ones((24, 10), np.int32)
  gather = lambda table_VD, tokens_BT: constrain(table_VD[tokens_BT], "BTD")
  whole = lambda table_VD, tokens_BT: constrain_to(2 * tokens_BT, P(None, None))
  options = dict(in_shardings=(sharding(mesh, "VD"), sharding(mesh, "BT")))
  with jax.set_mesh(mesh):
    gathered, messages = compiled(
      capfd, jax.jit(gather, **options), (table_VD, tokens_BT)
    )
    copied, _ = compiled(capfd, jax.jit(whole, **options), (table_VD, tokens_BT))
  if jax.__version_info__ < (0, 11):  # later ones partition with Shardy, in silence
    assert "Involuntary full rematerialization" in messages
  assert (24, 10) in shapes(copied)
  assert not [shape for shape in shapes(gathered) if {24, 240} & set(shape)]
