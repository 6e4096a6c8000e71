"""New files in the folders of lm/data: found by their names, without other edits."""

import importlib
import sys

import jax
import numpy as np
import pytest

import lm.data
from lm.data import Data
from lm.data.loader import Loader
from lm.letters import make_mesh

SEQ = 8

SOURCE = '''
"""Numbers in words: "counting:N" has N documents."""

from lm.data.sources import _records

VERSION = 1
ARGUMENT = "how many documents"


def documents(number, *, cache):
  names = [f"document {n}" for n in range(int(number))]
  return _records.split(names, _records.held_by_place(len(names)), _read)


def content(number, *, cache):
  return number


def _read(name):
  return {"id": name, "text": f"{name} counts one, two, three, four, five"}
'''

ROWS = '''
"""Rows of text backwards, with their length: "backwards-2" reads every second one."""

import numpy as np

from lm.data.rows import ArrayShape, Rows, concat

ORDER = "shuffled"
HOLDS = "text"
NUMBER = (1, 9)


def shapes(seq, every):
  return concat.shapes(seq) | {"length_": ArrayShape((), np.dtype(np.int32))}


def rows(corpus, split, seq, every):
  return Backwards(concat.rows(corpus, split, seq), every)


class Backwards(Rows):
  def __init__(self, rows, every):
    self._rows, self._every = rows, every

  def __len__(self):
    return -(-len(self._rows) // self._every)

  def __getitem__(self, index):
    return _backwards(self._rows[index * self._every])

  def padding(self):
    return _backwards(self._rows.padding())


def _backwards(row):
  length = np.array(row["weights_T"].sum(), np.int32)
  return {key: x[::-1] for key, x in row.items()} | {"length_": length}
'''

CORRUPTION = '''
"""All digits hidden by a question mark of its own."""

import dataclasses

import numpy as np

from lm.data.rows import corrupt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(corrupt.Corruption):
  text: str = "0123456789"

  objectives = ("masked_lm",)
  specials = ("<?>",)

  def shapes(self, row, seq):
    return row

  def bound(self, tokenizer, seq):
    digits, mask = tokenizer.encode(self.text), tokenizer.id("<?>")

    def hide(row, draw, *, rows, view=None):
      hidden_T = np.isin(row["targets_T"], digits)
      tokens_T = np.where(hidden_T, mask, row["targets_T"]).astype(np.int32)
      return row | {"tokens_T": tokens_T, "weights_T": hidden_T.astype(np.float32)}

    return hide
'''

FILES = {
  "lm.data.sources": ("counting", SOURCE),
  "lm.data.rows": ("backwards", ROWS),
  "lm.data.rows.corrupt": ("digits", CORRUPTION),
}


@pytest.fixture
def dropped(tmp_path, monkeypatch):
  """Adds three files to the packages of lm/data, for the test alone."""
  for package, (name, text) in FILES.items():
    folder = tmp_path / package
    folder.mkdir()
    (folder / f"{name}.py").write_text(text)
    path = importlib.import_module(package).__path__
    monkeypatch.setattr(
      importlib.import_module(package), "__path__", [*path, str(folder)]
    )
  importlib.invalidate_caches()
  yield
  for package, (name, _) in FILES.items():
    sys.modules.pop(f"{package}.{name}", None)


def test_a_new_source_kind_of_row_and_corruption_make_batches(dropped, tmp_path):
  data = Data(
    source="counting:60",
    rows="backwards-2",
    corrupt={"name": "digits"},
    cache=str(tmp_path / "cache"),
  )
  dataset = lm.data.prepare(data, seq=SEQ, log=lambda line: None)
  digits = [int(i) for i in dataset.tokenizer.encode("0123456789")]
  mask = dataset.tokenizer.id("<?>")
  mesh = make_mesh(jax.devices()[:2], data=2)
  load = Loader(dataset.rows("train", SEQ), batch=4, mesh=mesh, order=dataset.order)
  hidden_count = 0
  for batch in load.prefetch(range(2)):
    hidden_BT = np.isin(batch["targets_BT"], digits)
    np.testing.assert_array_equal(batch["weights_BT"] > 0, hidden_BT)
    np.testing.assert_array_equal(np.asarray(batch["tokens_BT"]) == mask, hidden_BT)
    assert batch["length_B"].tolist() == [SEQ] * 4
    hidden_count += hidden_BT.sum()
  assert hidden_count
  shapes = {key: x.shape[1:] for key, x in load.shapes.items()}
  row_shapes = lm.data.row_shapes(data, SEQ)
  assert list(shapes.values()) == [x.shape for x in row_shapes.values()]
  assert (
    lm.data.prepare(Data(source="counting:60", cache=data.cache), seq=SEQ).folder
    == dataset.folder
  )


def test_a_name_that_no_file_has_lists_the_new_ones(dropped):
  for settings, message in (
    (dict(source="countin:60"), "counting:... (how many documents)"),
    (dict(rows="backward"), "found: backwards, concat"),
    (dict(corrupt=dict(name="digit")), "found: digits, masked"),
  ):
    with pytest.raises(ValueError) as error:
      Data(**{"source": "counting:60", **settings})
    assert message in str(error.value)
