"""Shapes of batches, computed before there are data."""

import jax
import numpy as np
import pytest

import lm.data
from lm.data import Data
from lm.data.loader import Loader, batch_shapes
from lm.letters import make_mesh

SEQ = 16
KINDS = ("concat", "stream", "first_fit", "cooccurrence-2")
CORRUPTIONS = ("", "masked", "pairs", "spans", "prefix")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  path = tmp_path_factory.mktemp("shapes") / "text.txt"
  lines = np.random.default_rng(0).integers(0, 1000, (60, 9)).astype(str)
  path.write_text("\n\n".join(" ".join(line) for line in lines))
  return path


def settings_of(kind: str, name: str) -> dict:
  return dict(rows=kind, corrupt={"name": name})


def fits(kind: str, name: str) -> bool:
  if kind == "first_fit":
    return name in ("", "masked")
  return not name or kind in ("concat", "stream")


PAIRS = [(kind, name) for kind in KINDS for name in CORRUPTIONS]


@pytest.mark.parametrize("kind, name", [pair for pair in PAIRS if fits(*pair)])
def test_shapes_are_known_without_data(text, kind, name):
  settings = settings_of(kind, name)
  source, cache = f"text:{text}", str(text.parent / "cache")
  dataset = lm.data.prepare(
    Data(source=source, cache=cache, **settings), seq=SEQ, log=lambda line: None
  )
  data = Data(source="text:none.txt", **settings)
  mesh = make_mesh(jax.devices()[:2], data=2)
  expected = batch_shapes(lm.data.row_shapes(data, SEQ), batch=4, mesh=mesh)
  for split, order in (("train", dataset.order), ("heldout", "once")):
    load = Loader(dataset.rows(split, SEQ), batch=4, mesh=mesh, order=order)
    assert load.shapes == expected
    batch = load(0)
    assert batch.keys() == expected.keys()
    for key, x in batch.items():
      facts = x.shape, x.dtype, x.sharding
      assert facts == (expected[key].shape, expected[key].dtype, expected[key].sharding)


@pytest.mark.parametrize("kind, name", [pair for pair in PAIRS if not fits(*pair)])
def test_rows_that_a_corruption_cannot_read_are_refused(kind, name):
  with pytest.raises(ValueError, match=f"rows='{kind}'; wanted rows that hold text"):
    Data(source="text:none.txt", **settings_of(kind, name))
