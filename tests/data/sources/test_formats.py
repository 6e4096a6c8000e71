"""Formats of files: the same documents in each, in chunks of any size, and damage."""

import importlib.util
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import formats
import pyarrow
import pytest
from formats import DOCUMENTS
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from lm.data import sources
from lm.data.sources import _chunks, _records

NAMED = [kind for kind in formats.WRITERS if kind != "texts"]
BY_TEXT = ("parquet", "warc", "warc.gz", "texts")  # held out by hash of the text alone
CUT = ("jsonl", "parquet", "arrayrecord", "texts")  # into more than a chunk a file


def pairs(source):
  """Returns (chunks, all their (record, number))."""
  chunks, left_out = sources.chunks(source, cache="unused")
  assert not left_out
  return chunks, [pair for chunk in chunks for pair in chunk.read()]


def message(source):
  with pytest.raises(ValueError) as error:
    pairs(source)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("kind", NAMED)
def test_every_format_gives_the_same_records(kind, tmp_path):
  source = formats.write(kind, tmp_path / "a", DOCUMENTS)
  _, read = pairs(source)
  assert [record for record, _ in read] == DOCUMENTS
  splits = sources.documents(source, cache="unused")
  both = [*splits["train"], *splits["heldout"]]
  assert len(splits["heldout"]) and sorted(both, key=str) == sorted(DOCUMENTS, key=str)
  before = sources.fingerprint(source, cache="unused")
  formats.write(kind, tmp_path / "a", DOCUMENTS[1:])
  assert sources.fingerprint(source, cache="unused") != before


def test_records_without_a_name_are_numbered(tmp_path):
  source = formats.write("texts", tmp_path / "a.records")
  expected = [
    {"id": f"a.records:{n}", "text": document["text"]}
    for n, document in enumerate(DOCUMENTS, 1)
  ]
  assert [record for record, _ in pairs(source)[1]] == expected
  table = pyarrow.table({"text": [d["text"] for d in DOCUMENTS]})
  parquet.write_table(table, tmp_path / "a.records")
  assert [r for r, _ in pairs(f"parquet:{tmp_path / 'a.records'}")[1]] == expected


@pytest.mark.parametrize("kind", list(formats.WRITERS))
def test_small_chunks_have_the_documents_of_a_whole(kind, tmp_path, monkeypatch):
  source = formats.write(kind, tmp_path / "a")
  chunks, whole = pairs(source)
  assert len(chunks) == 1
  for size in (1, 1000, 9000):
    monkeypatch.setattr(_chunks, "CHUNK_BYTES", size)
    parts, read = pairs(source)
    assert (len(parts) > 1) == (kind in CUT) and read == whole
    for part in parts:
      sent = ForkingPickler.loads(ForkingPickler.dumps(part))
      assert sent == part and list(sent.read()) == list(part.read())
      assert part.num_bytes > 0


def test_formats_hold_out_by_the_same_rule(tmp_path):
  numbers = {
    kind: [n for _, n in pairs(formats.write(kind, tmp_path / kind))[1]]
    for kind in formats.WRITERS
  }
  expected = [_records.hash64(d["text"].encode()) for d in DOCUMENTS]
  assert all(numbers[kind] == expected for kind in BY_TEXT)
  of_lines = [_records.hash64(line) for line in formats.lines(DOCUMENTS)]
  assert numbers["jsonl"] == numbers["jsonl.gz"] == numbers["arrayrecord"] == of_lines
  held = sources.documents(f"parquet:{tmp_path / 'parquet'}", cache="unused")["heldout"]
  is_held = zip(DOCUMENTS, expected, strict=True)
  assert list(held) == [d for d, n in is_held if n % _records.EVERY == 0] != []


@given(st.lists(st.text(), min_size=1, max_size=9))
def test_any_text_comes_back(tmp_path_factory, texts):
  folder = tmp_path_factory.mktemp("formats")
  documents = [{"id": str(n), "text": text} for n, text in enumerate(texts)]
  for kind in ("jsonl", "parquet", "arrayrecord", "warc"):
    source = formats.write(kind, folder / kind, documents)
    assert [record for record, _ in pairs(source)[1]] == documents


@pytest.mark.parametrize("kind", list(formats.WRITERS))
def test_several_files_are_read_in_order_and_one_may_be_empty(kind, tmp_path):
  one = formats.write(kind, tmp_path / "a.x")
  formats.write(kind, tmp_path / "b.x", DOCUMENTS[:5])
  formats.write(kind, tmp_path / "c.x", [])
  name = one.partition(":")[0]
  texts = [r["text"] for r, _ in pairs(f"{name}:{tmp_path}/*.x")[1]]
  assert texts == [d["text"] for d in DOCUMENTS + DOCUMENTS[:5]]
  assert "is empty; wanted " in message(f"{name}:{tmp_path}/c.*")
  wanted = f"no file {tmp_path}/*.y; wanted {name}:PATH"
  assert message(f"{name}:{tmp_path}/*.y").startswith(wanted)


@pytest.mark.parametrize("kind", list(formats.WRITERS))
def test_files_that_change_or_vanish_are_named(kind, tmp_path):
  source = formats.write(kind, tmp_path / "a")
  chunks, _ = sources.chunks(source, cache="unused")
  reading = chunks[0].read()
  next(reading)
  with open(tmp_path / "a", "ab") as file:
    file.write(b"\n")
  for documents in (reading, chunks[0].read()):
    with pytest.raises(ValueError, match=r"/a changed while it was read: it has \d+"):
      list(documents)
  (tmp_path / "a").unlink()
  with pytest.raises(ValueError, match="/a is gone since its chunks were listed"):
    next(chunks[0].read())


@pytest.mark.parametrize("kind", ["parquet", "arrayrecord"])
def test_a_cut_file_is_refused_wherever_it_is_cut(kind, tmp_path):
  source = formats.write(kind, tmp_path / "a")
  data = (tmp_path / "a").read_bytes()
  for size in (0, 3, 100, len(data) // 2, len(data) - 9, len(data) - 1):
    (tmp_path / "a").write_bytes(data[:size])
    assert f"{tmp_path}/a is damaged" in message(source)
  (tmp_path / "a").write_bytes(b"something else\n" * 99)
  assert f"{tmp_path}/a is damaged" in message(source)


@pytest.mark.parametrize("kind", ["parquet", "arrayrecord"])
def test_a_changed_byte_is_refused(kind, tmp_path):
  source = formats.write(kind, tmp_path / "a")
  if kind == "parquet":
    options = dict(use_dictionary=False, write_statistics=False, compression="none")
    formats.columns(tmp_path / "a", DOCUMENTS, write_page_checksum=True, **options)
  data = bytearray((tmp_path / "a").read_bytes())
  place = data.index(b"words") if kind == "parquet" else len(data) // 2
  data[place] ^= 0x55
  (tmp_path / "a").write_bytes(data)
  assert "a is damaged or " in message(source)


@pytest.mark.parametrize(
  "columns, error",
  [
    ({"body": ["a"], "n": [1]}, "has the columns body, n; wanted one named 'text'"),
    ({"text": [1, 2]}, "the column 'text' holds int64; wanted string"),
    ({"text": [["a"]]}, "'text' holds list<"),
    ({"text": ["a", None, "c"]}, "row 2: wanted a text, got null"),
    ({"text": ["a"] * 900 + [None]}, "row 901: wanted a text, got null"),
  ],
)
def test_odd_columns_of_parquet_are_named(columns, error, tmp_path, monkeypatch):
  monkeypatch.setattr(_chunks, "CHUNK_BYTES", 1)
  path = tmp_path / "a.parquet"
  parquet.write_table(pyarrow.table(columns), path, row_group_size=400)
  assert f"{path}" in message(f"parquet:{path}")
  assert error in message(f"parquet:{path}")


@pytest.mark.parametrize("is_dictionary", [False, True])
def test_cells_of_parquet_that_are_not_utf8_are_named(is_dictionary, tmp_path):
  cells = pyarrow.array([b"a", b"caf\xe9"]).view(pyarrow.string())
  cells = cells.dictionary_encode() if is_dictionary else cells
  path = tmp_path / "a.parquet"
  parquet.write_table(pyarrow.table({"text": cells}), path)
  error = f"{path} row 2 is not UTF-8: byte 0xe9 at offset 3; convert it first"
  assert message(f"parquet:{path}").startswith(error)


def test_other_columns_of_parquet_do_no_harm(tmp_path):
  columns = {
    "id": [1, None, 3],
    "text": pyarrow.array(["a", "b", ""]).dictionary_encode(),
    "more": [[1.5], [], None],
  }
  path = tmp_path / "a.parquet"
  parquet.write_table(pyarrow.table(columns), path)
  read = [record for record, _ in pairs(f"parquet:{path}")[1]]
  names = ["1", "a.parquet:2", "3"]
  assert read == [
    dict(id=n, text=t) for n, t in zip(names, ["a", "b", ""], strict=True)
  ]


@pytest.mark.parametrize(
  "records, error",
  [
    ([b'{"text": "a"}', b'{"text": "b"'], "record 2 is not JSON"),
    ([b'{"text": "a"}', b"b"], "record 2 is not JSON"),
    ([b'{"text": "a"}', b""], "record 2 is not JSON"),
    ([b'{"txt": "a"}'], "record 1: wanted an object with a string 'text'"),
    ([b'{"text": "caf\xe9"}'], "record 1 is not UTF-8"),
    ([b"caf\xc3\xa9", b"caf\xe9"], "record 2 is not UTF-8: byte 0xe9 at offset 3"),
    ([b"\n\x12\n\x10\n\x04text\x12\x08\n\x06\n\x04abcd"], "has binary records; wanted"),
  ],
)
def test_odd_records_are_named(records, error, tmp_path):
  formats.records(tmp_path / "a", records)
  assert error in message(f"arrayrecord:{tmp_path / 'a'}")


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
  source = formats.write("parquet", tmp_path / "a")
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  command = "needs pyarrow; .venv/bin/python -m pip install pyarrow"
  assert command in message(source)


def test_no_optional_package_is_imported_to_list_the_sources():
  code = """
import sys
for name in ("pyarrow", "fastwarc", "resiliparse", "huggingface_hub", "array_record"):
  sys.modules[name] = None  # its import raises ImportError
from lm.data import sources
print(sources._descriptions())
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert not done.returncode, done.stderr
  for name in ("parquet", "warc", "arrayrecord", "hf", "jsonl"):
    assert f"{name}:... (" in done.stdout
