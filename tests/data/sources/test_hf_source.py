"""Data sets of the hub by name, from a small server that stands for it."""

import json

import formats
import hubs
import processes
import pytest
from formats import DOCUMENTS
from hubs import NAME, SHA
from huggingface_hub import constants

from lm.data import sources
from lm.data.sources import hf


@pytest.fixture
def folder(tmp_path):
  """Returns a folder of a data set's files."""
  folder = tmp_path / "repo"
  (folder / "data" / "more").mkdir(parents=True)
  formats.write("parquet", folder / "data" / "train-0.parquet", DOCUMENTS[:40])
  formats.write("parquet", folder / "data" / "train-1.parquet", DOCUMENTS[40:])
  formats.write("jsonl.gz", folder / "data" / "more" / "a.json.gz", DOCUMENTS[:5])
  formats.write("warc.gz", folder / "data" / "more" / "b.warc.wet.gz", DOCUMENTS[:5])
  formats.write("arrayrecord", folder / "c.array_record", DOCUMENTS[:5])
  (folder / "README.md").write_text("about it")
  return folder


@pytest.fixture
def connect(monkeypatch):
  """Returns connect(server), after which huggingface_hub goes there."""

  def connect(server):
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

  return connect


def read(name, cache):
  chunks, _ = sources.chunks(name, cache=cache)
  return [record for chunk in chunks for record, _ in chunk.read()]


def refused(name, cache) -> str:
  with pytest.raises(ValueError) as error:
    read(name, cache)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_files_of_a_data_set_are_fetched_once(folder, connect, tmp_path):
  name = f"hf:{NAME}/data/*.parquet"
  with hubs.serving(folder) as server:
    connect(server)
    before = sources.fingerprint(name, cache=tmp_path / "cache")
    assert not server.requests  # a hash of names, sizes and hashes
    assert read(name, tmp_path / "cache") == DOCUMENTS
    got = [file for command, file in server.requests if command == "GET"]
    assert got == ["data/train-0.parquet", "data/train-1.parquet"]
  # The server is gone; what was resolved stays, and what was fetched.
  assert read(name, tmp_path / "cache") == DOCUMENTS
  assert sources.fingerprint(name, cache=tmp_path / "cache") == before
  note = json.loads((tmp_path / "cache" / "hub" / "org--small@main.json").read_bytes())
  assert note["sha"] == SHA and len(note["files"]) == 6


@pytest.mark.parametrize(
  "name, expected",
  [
    ("/data/train-?.parquet", DOCUMENTS),
    ("@main/data/train-0.parquet", DOCUMENTS[:40]),
    (f"@{SHA}/**/*.parquet", DOCUMENTS),
    ("@refs/convert/parquet/data/train-1*", DOCUMENTS[40:]),
    ("@v1/data/*/*", DOCUMENTS[:5] * 2),
    ("/c.*", DOCUMENTS[:5]),
  ],
)
def test_names_of_revisions_files_and_formats(
  name, expected, folder, connect, tmp_path
):
  with hubs.serving(folder) as server:
    connect(server)
    assert read(f"hf:{NAME}{name}", tmp_path / "cache") == expected


def test_a_pattern_is_that_of_glob(tmp_path):
  names = ["a.x", "b/a.x", "b/c/a.x", "b/c/d.y"]
  for name in names:
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).touch()
  for pattern in ("*.x", "**/*.x", "b/**/*.x", "b/*", "b/c/[a-c].?", "**/c/*", "b/**"):
    files = {path for path in tmp_path.glob(pattern) if path.is_file()}
    if pattern.endswith("**"):  # of which pathlib of Python 3.11 has the folders alone
      files = {tmp_path / name for name in names if name.startswith("b/")}
    expected = sorted(str(path.relative_to(tmp_path)) for path in files)
    matches = [n for n in names if hf._matches(n.split("/"), pattern.split("/"))]
    assert sorted(matches) == expected, pattern


@pytest.mark.parametrize(
  "name, faults, error",
  [
    ("org/none/data/*", {}, "hf:org/none does not exist, or is private: check its"),
    ("org/gated/data/*", {}, "hf:org/gated is gated: accept its terms"),
    (f"{NAME}@v9/data/*", {}, f"hf:{NAME} has no revision 'v9'"),
    (f"{NAME}/no/*", {}, f"hf:{NAME}@main has no file no/*; it has: c.array_record, "),
    (f"{NAME}/*", {}, f"hf:{NAME}/* has README.md, which is none of .parquet, "),
    (NAME, {}, f"hf:{NAME}; wanted hf:organisation/name@revision/path of files, such"),
    ("small/*.parquet", {}, "hf:small/*.parquet; wanted hf:organisation/name@"),
    (f"{NAME}@/a/b", {}, f"hf:{NAME}@/a/b; wanted hf:organisation/name@"),
    ("org/a b/data/*", {}, "hf:org/a b@main is no name of a data set: "),
    (
      f"{NAME}/c.*",
      dict(missing=["c.array_record"]),
      f"hf:{NAME}@main could not be fetched (",
    ),
    (f"{NAME}/c.*", dict(cut=["c.array_record"]), "could not be fetched ("),
  ],
)
def test_what_cannot_be_had_is_one_line(name, faults, error, folder, connect, tmp_path):
  with hubs.serving(folder, **faults) as server:
    connect(server)
    assert error in refused(f"hf:{name}", tmp_path / "cache")


def test_a_file_of_the_cache_that_was_cut_is_named(folder, connect, tmp_path):
  name, cache = f"hf:{NAME}/c.array_record", tmp_path / "cache"
  with hubs.serving(folder) as server:
    connect(server)
    read(name, cache)
  [file] = cache.rglob("c.array_record")
  file.write_bytes(file.read_bytes()[:-9])
  size = (folder / "c.array_record").stat().st_size
  assert refused(name, cache) == f"{file} has {size - 9} bytes, not {size}; remove it"


def test_without_a_network_it_says_so(folder, connect, tmp_path, monkeypatch):
  name, cache = f"hf:{NAME}@v1/c.*", tmp_path / "cache"
  with hubs.serving(folder) as server:
    connect(server)
  for is_offline in (False, True):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    error = refused(name, cache)
    assert error.startswith(f"hf:{NAME}@v1 could not be fetched (")
    assert error.endswith("or give the paths of files (parquet:PATH, jsonl:PATH)")


def test_a_corpus_is_prepared_from_the_hub(folder, tmp_path):
  flags = ["--config=configs/shakespeare.py", f"--config.data.cache={tmp_path / 'c'}"]
  flags += [f"--config.data.source=hf:{NAME}@v1/data/*.parquet"]
  flags += ["--config.data.tokenizer=bytes", "--config.data.clean.dedup=off"]
  with hubs.serving(folder) as server:
    env = hubs.environment(server, tmp_path / "home")
    run = processes.fresh("prepare", *flags, env=env)
  assert run.code == 0, run.err
  [report] = (tmp_path / "c").rglob("report.json")
  report = json.loads(report.read_bytes())
  documents = sum(report[split]["documents"] for split in ("train", "heldout"))
  assert documents == len(DOCUMENTS)
