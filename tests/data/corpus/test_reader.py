"""Prepared data, opened: what was written is what is read, or it is said."""

import os
import shutil

import numpy as np
import processes
import pytest

from lm.data.corpus import build
from lm.data.corpus.reader import Prepared
from lm.data.rows import pack
from lm.disk import atomic

SHAPE = dict(pack="first_fit", seq=8)


@pytest.fixture
def folder(tmp_path):
  """Of data whose rows were read once."""
  made = build.prepare(
    source=f"text:{processes.corpus(tmp_path, 60)}",
    tokenizer="bpe-300",
    clean={},
    cache=tmp_path / "cache",
    log=lambda line: None,
    **SHAPE,
  )
  return made.folder


def test_plans_are_kept_and_equal_to_computed_ones(folder):
  assert len(list(folder.glob("train/first_fit-8-*"))) == 1
  prepared = Prepared(folder, **SHAPE)
  plan = pack.plan_first_fit(prepared.offsets("train"), 8)
  again = prepared._plan("train", 8)
  for name in ("start_P", "length_P", "row_offsets"):
    np.testing.assert_array_equal(getattr(again, name), getattr(plan, name))


def flip(path):
  """Another last bit, and nothing else that could tell but the time of change."""
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)


def cut(path):
  os.truncate(path, path.stat().st_size - 2)


HARMS = [flip, cut, os.remove]
FILES = ["train/00000.tokens", "train/offsets.npy", "tokenizer/tokenizer.json"]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_told(folder, name, harm):
  harm(folder / name)
  with pytest.raises(ValueError, match=r"damaged or missing; delete .* again") as told:
    Prepared(folder, **SHAPE)
  assert str(told.value).startswith(str(folder / name))
  assert "\n" not in str(told.value)


def test_a_damaged_plan_is_told(folder):
  [path] = folder.glob("train/first_fit-*")
  flip(path)
  with pytest.raises(ValueError, match=r"first_fit-8-\w+\.npy is damaged or missing"):
    Prepared(folder, **SHAPE).rows("train")
  flip(path)  # the bits are back, and so is the plan, at another time
  assert len(Prepared(folder, **SHAPE).rows("train"))


def test_what_was_read_once_is_not_read_at_every_start(folder, tmp_path, monkeypatch):
  read, hashed = [], atomic.sha256_of_file
  monkeypatch.setattr(atomic, "sha256_of_file", lambda p: read.append(p) or hashed(p))
  Prepared(folder, **SHAPE).rows("train")
  assert not read
  copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
  for _ in range(2):
    Prepared(copy, **SHAPE)
  assert len(read) == len(set(read)) > 5


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
  (folder / "checked.json").unlink()

  def refuses(*_):
    raise OSError(30, "Read-only file system")

  monkeypatch.setattr(atomic, "write_atomically", refuses)
  assert len(Prepared(folder, **SHAPE).rows("train"))
  flip(folder / "train" / "00000.tokens")
  with pytest.raises(ValueError, match="damaged"):
    Prepared(folder, **SHAPE)
