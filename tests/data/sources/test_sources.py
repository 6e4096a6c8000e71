import itertools
import json
import pathlib
import re
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import sources
from lm.data.sources import _records, python_stdlib, text


def ids(records):
  return [record["id"] for record in records]


def texts(records):
  return [record["text"] for record in records]


def read(source, cache="unused"):
  return sources.documents(source, cache=cache)


def message(source, cache="unused"):
  """Returns the message of the Mistake, which is one line."""
  with pytest.raises(ValueError) as error:
    splits = read(source, cache)
    for split in ("train", "heldout"):
      list(splits[split])
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  "source",
  [
    "",
    "shakspeare",
    "text:",
    "text",
    "csv:x",
    "python_stdlib:x",
    "packages",
    "_records",
  ],
)
def test_unknown_name_lists_what_exists(source):
  error_line = message(source)
  for source_name in (
    "shakespeare",
    "sotu",
    "python_stdlib",
    "lm1b",
    "text:",
    "jsonl:",
    "parquet:",
    "warc:",
    "arrayrecord:",
    "hf:",
  ):
    assert source_name in error_line


@pytest.mark.parametrize(
  "several",
  [
    ("shakespeare",),
    ("shakespeare", "sotu", "python_stdlib"),
    ("text:a.txt", "jsonl:b.jsonl", "lm1b", "tfds:c4/en"),
    ("text:/data/a,b.txt", "text:c, d.txt"),
    ("parquet:a,b.parquet", "warc:*.wet.gz", "hf:org/name@main/{a,b}/*", "hf:a/b/c"),
    ("text:a,text", "text:b"),
    ("shakespeare,shakspeare",),
  ],
)
def test_a_comma_ends_a_source_if_another_one_follows(several):
  assert sources.listed(",".join(several)) == several


@pytest.mark.parametrize(
  ("kind", "name", "data", "expected"),
  [
    ("text", "no.txt", None, "no file or folder"),
    ("text", "a.txt", b"", "empty"),
    ("text", "a.txt", b"\n\n", "cannot be divided into training and held-out text"),
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
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": 7}\n', "got {'text': 'int'}"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: wanted"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "line 2 is not UTF-8"),
    ("jsonl", "a.jsonl", b'{"text": "a"}\n{"text": "a"}\n', "only one document"),
  ],
)
def test_broken_files_are_reported_in_one_line(tmp_path, kind, name, data, expected):
  if data is not None:
    (tmp_path / name).write_bytes(data)
  assert expected in message(f"{kind}:{tmp_path / name}")


def test_broken_folders_are_reported_in_one_line(tmp_path):
  assert "no .txt file" in message(f"text:{tmp_path}")
  (tmp_path / "a.txt").write_bytes(b"")
  assert "empty" in message(f"text:{tmp_path}")
  for name in "abc":
    (tmp_path / f"{name}.txt").write_bytes(b"\xff" if name == "b" else b"fine")
  assert "b.txt is not UTF-8: byte 0xff at offset 0" in message(f"text:{tmp_path}")


@given(st.text(st.sampled_from("ab\n \u00e9"), min_size=2).filter(str.strip))
def test_one_file_is_divided_and_nothing_is_lost(whole):
  pieces = text._pieces(whole)
  assert all(piece.strip() for piece in pieces)
  assert "".join("".join(pieces).split()) == "".join(whole.split())
  is_heldout = _records.held_by_place(len(pieces))
  assert sum(is_heldout) >= 1 and len(is_heldout) == len(pieces)


WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "then"]
ONE_FILE = {  # text, how every chunk begins, number of chunks
  "paragraphs": ("\n\n".join(f"paragraph {n}\nof two lines" for n in range(400)), 100),
  "lines": ("\n".join(f"line {n:5} of many" for n in range(900)), 100),
  "few lines": ("\n".join(f"line {n:5} of a few" for n in range(60)), 60),
  "one line": (" ".join(WORDS * 500), 100),
  "one word": ("acgt" * 9000, 100),
  "a few long lines": ("\n".join([" ".join(WORDS * 99)] * 3), 100),
}


@pytest.mark.parametrize("kind", list(ONE_FILE))
def test_one_file_holds_out_a_twentieth_in_several_places(kind, tmp_path):
  whole, num = ONE_FILE[kind]
  (tmp_path / "a.txt").write_text(whole)
  splits = read(f"text:{tmp_path / 'a.txt'}")
  expected = [f"a.txt#{n}" for n in range(10, len(splits["train"]), 20)]
  assert ids(splits["heldout"]) == expected
  parts = {r["id"]: r["text"] for s in ("train", "heldout") for r in splits[s]}
  assert "".join(parts[f"a.txt#{n}"] for n in range(len(parts))) == whole
  assert 0.9 * num <= len(parts) <= num
  heldout = sum(map(len, texts(splits["heldout"])))
  assert 0.04 * len(whole) < heldout < 0.06 * len(whole)
  assert max(map(len, parts.values())) < 2 * len(whole) / num
  if kind in ("paragraphs", "lines", "few lines"):
    assert all(part.startswith(kind.split()[-1][:-1]) for part in parts.values())
  elif kind != "one word":
    assert all(part.split()[0] in WORDS for part in parts.values())


def test_a_long_line_among_paragraphs_is_divided(tmp_path):
  whole = "\n\n".join(["a paragraph"] * 40) + "\n\n" + " ".join(WORDS * 500)
  pieces = text._pieces(whole)
  assert "".join(pieces) == whole
  assert max(map(len, pieces)) < 3 * len(whole) / len(pieces)


def test_the_chunks_of_a_big_file_are_those_of_the_first_version(monkeypatch):
  """Checks the rule with small chunks: the first end at or after each multiple."""
  monkeypatch.setattr(text, "CHUNK_CHARS", 50)
  whole = "".join(f"{n:08}\n" + "\n" * (n % 3 == 0) for n in range(3000))
  num = -(-len(whole) // 50)
  ends = [match.end() for match in re.finditer(r"\n\s*\n", whole)]
  cuts = [0]
  for end in ends:
    if end >= len(cuts) * len(whole) / num:
      cuts.append(end)
  expected = [whole[a:b] for a, b in itertools.pairwise([*cuts, len(whole)])]
  assert text._pieces(whole) == [part for part in expected if part.strip()]


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
def test_jsonl_gives_back_every_text(
  tmp_path_factory, documents, ascii_only, duplicated
):
  path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
  rows = [json.dumps({"text": part}, ensure_ascii=ascii_only) for part in documents]
  path.write_bytes("\n".join(rows * (1 + duplicated)).encode())
  splits = read(f"jsonl:{path}")
  train, heldout = texts(splits["train"]), texts(splits["heldout"])
  assert sorted(train + heldout) == sorted(documents * (1 + duplicated))
  assert train and heldout and not set(train) & set(heldout)


def test_jsonl_keeps_ids_and_mends_half_characters(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"id": 7, "text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}')
  splits = read(f"jsonl:{path}")
  records = [record for split in splits.values() for record in split]
  text_of_id = {record["id"]: record["text"] for record in records}
  assert text_of_id == {"7": "a\ufffdb", "a.jsonl:2": "\U0001f600"}


def test_records_are_sequences_that_can_go_to_another_process(tmp_path):
  (tmp_path / "a.txt").write_text("\n\n".join("abcdefgh"))
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
  for source in (f"text:{tmp_path / 'a.txt'}", f"jsonl:{tmp_path / 'b.jsonl'}"):
    records = read(source)["train"]
    sent = ForkingPickler.loads(ForkingPickler.dumps(records))  # as a pool sends them
    assert list(sent) == list(records)
    assert records[-1] == records[len(records) - 1]
    with pytest.raises(IndexError):
      records[len(records)]


def test_fingerprint_follows_names_and_content(tmp_path):
  def fingerprint(name):
    return sources.fingerprint(name, cache="unused")

  (tmp_path / "a.txt").write_text("one\n\ntwo")
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
  folder, lines = f"text:{tmp_path}", f"jsonl:{tmp_path / 'b.jsonl'}"
  fingerprints = [fingerprint(folder), fingerprint(lines)]
  assert fingerprints == [fingerprint(folder), fingerprint(lines)]
  (tmp_path / "a.txt").write_text("one\n\ntwO")
  fingerprints.append(fingerprint(folder))
  (tmp_path / "a.txt").rename(tmp_path / "c.txt")
  fingerprints.append(fingerprint(folder))
  (tmp_path / "b.jsonl").write_text('{"text": "a"}\n{"text": "c"}\n')
  fingerprints.append(fingerprint(lines))
  assert len(set(fingerprints)) == len(fingerprints)
  assert all(len(digest) == 64 for digest in fingerprints)


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
