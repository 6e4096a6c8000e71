"""Opened data: damage since the build is an error that names the file."""

import os
import shutil

import numpy as np
import processes
import pytest

from lm.data import Data, prepare
from lm.data.corpus.reader import Corpus
from lm.data.rows import first_fit
from lm.disk import atomic


def rows(folder):
  return first_fit.rows(Corpus(folder), "train", 8)


@pytest.fixture
def folder(tmp_path):
  """Returns the folder of prepared data whose rows were read once."""
  data = Data(
    source=f"text:{processes.corpus(tmp_path, 60)}",
    tokenizer="bpe-300",
    rows="first_fit",
    cache=str(tmp_path / "cache"),
  )
  return prepare(data, seq=8, log=lambda line: None).folder


def test_plans_are_kept_and_equal_to_computed_ones(folder):
  [path] = folder.glob("train/first_fit-8-*")
  plan = first_fit.make_plan(Corpus(folder).offsets("train"), 8)
  stored = first_fit.read_plan(path)
  for name in ("start_P", "length_P", "row_offsets"):
    np.testing.assert_array_equal(getattr(stored, name), getattr(plan, name))


def flip(path):
  """Flips the last bit of a file; size and name stay."""
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)


def cut(path):
  os.truncate(path, path.stat().st_size - 2)


HARMS = [flip, cut, os.remove]
FILES = ["train/00000.tokens", "train/offsets.npy", "tokenizer/tokenizer.json"]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_reported(folder, name, harm):
  harm(folder / name)
  with pytest.raises(ValueError, match=r"damaged or missing; delete .* again") as error:
    Corpus(folder)
  assert str(error.value).startswith(str(folder / name))
  assert "\n" not in str(error.value)


def test_a_damaged_plan_is_reported(folder):
  [path] = folder.glob("train/first_fit-*")
  flip(path)
  with pytest.raises(ValueError, match=r"first_fit-8-\w+\.npy is damaged or missing"):
    rows(folder)
  flip(path)  # the bits are restored, with another time of change
  assert len(rows(folder))


def test_what_was_read_once_is_not_read_at_every_start(folder, tmp_path, monkeypatch):
  read_paths, sha256_of_file = [], atomic.sha256_of_file
  monkeypatch.setattr(
    atomic, "sha256_of_file", lambda p: read_paths.append(p) or sha256_of_file(p)
  )
  rows(folder)
  assert not read_paths
  copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
  for _ in range(2):
    Corpus(copy)
  assert len(read_paths) == len(set(read_paths)) > 5


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
  (folder / "checked.json").unlink()

  def refuses(*_):
    raise OSError(30, "Read-only file system")

  monkeypatch.setattr(atomic, "write", refuses)
  assert len(rows(folder))
  flip(folder / "train" / "00000.tokens")
  with pytest.raises(ValueError, match="damaged"):
    Corpus(folder)
