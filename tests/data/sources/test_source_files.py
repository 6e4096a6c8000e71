"""Files as they come: compressed, linked, in other encodings, with odd names."""

import bz2
import gzip
import json
import lzma
import os

import pytest

from lm.data import sources
from lm.data.corpus import build, parallel
from lm.disk import compressed

LINES = [f"document {n} of a few, in na\u00efve words" for n in range(60)]
JSONL = "\n".join(json.dumps({"text": line}) for line in LINES).encode()
TEXT = "\n".join(LINES).encode()
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def read(source):
  splits = sources.documents(source, cache="unused")
  return {split: list(splits[split]) for split in ("train", "heldout")}


def texts(splits):
  return {split: [r["text"] for r in splits[split]] for split in splits}


def refused(source):
  with pytest.raises(ValueError) as error:
    read(source)
  assert "\n" not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize("suffix", list(PACKERS))
@pytest.mark.parametrize("kind, data", [("text", TEXT), ("jsonl", JSONL)])
def test_compressed_files_are_read_and_held_out_as_others(kind, data, suffix, tmp_path):
  (tmp_path / "a").write_bytes(data)
  packed = tmp_path / f"a.{suffix}"
  half = len(data) // 2
  packed.write_bytes(  # in two parts, as `cat` and parallel packers make them
    PACKERS[suffix](data[:half]) + PACKERS[suffix](data[half:])
  )
  assert texts(read(f"{kind}:{packed}")) == texts(read(f"{kind}:{tmp_path / 'a'}"))
  packed.rename(tmp_path / "b")  # the content decides, not the name
  assert len(read(f"{kind}:{tmp_path / 'b'}")["train"]) > 40
  (tmp_path / "b").write_bytes(PACKERS[suffix](data)[:-9])
  assert "is damaged or cut off" in refused(f"{kind}:{tmp_path / 'b'}")


def test_records_of_a_compressed_file_are_read_in_any_order(tmp_path):
  (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(JSONL))
  records = sources.documents(f"jsonl:{tmp_path / 'a.jsonl.gz'}", cache="unused")
  train = records["train"]
  assert [train[i] for i in (5, 1, 30, 0)] == [list(train)[i] for i in (5, 1, 30, 0)]


@pytest.mark.parametrize("kind, data", [("text", TEXT), ("jsonl", JSONL)])
def test_zstd_is_read_where_python_can(kind, data, tmp_path):
  path = tmp_path / "a.zst"
  zstd = compressed._zstd()
  path.write_bytes(zstd.compress(data) if zstd else b"\x28\xb5\x2f\xfd" + bytes(30))
  if zstd:
    assert len(read(f"{kind}:{path}")["train"]) > 40
  else:
    assert "needs Python 3.14 or `.venv/bin/pip install backports" in refused(
      f"{kind}:{path}"
    )


@pytest.mark.parametrize(
  "data, message",
  [
    (b"PK\x03\x04\x14\x00", "is a zip archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    (gzip.compress(bytes(257) + b"ustar" + bytes(99), mtime=0), "is a tar archive"),
    ("\ufeffab\ncd\n".encode("utf-16-le"), "is UTF-16; convert it first (iconv -f"),
    ("\ufeffab\ncd\n".encode("utf-16-be"), "is UTF-16;"),
    ("ab\ncd\n".encode("utf-16-le"), "is UTF-16LE;"),
    ("ab\ncd\n".encode("utf-16-be"), "is UTF-16BE;"),
    ("ab\ncd\n".encode("utf-32"), "is UTF-32;"),
    ("ab\ncd\n".encode("utf-32-be"), "is UTF-32BE;"),
    ("\u4e2d\u6587\n".encode("gb18030"), "is not UTF-8: byte"),
  ],
)
@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_what_cannot_be_read_is_named(kind, data, message, tmp_path):
  (tmp_path / "a.txt").write_bytes(data)
  assert message in refused(f"{kind}:{tmp_path / 'a.txt'}")


def test_byte_order_marks_are_no_text(tmp_path):
  mark = b"\xef\xbb\xbf"
  for name, data in (("a.txt", TEXT), ("a.jsonl", JSONL)):
    kind = "text" if name == "a.txt" else "jsonl"
    (tmp_path / name).write_bytes(data)
    plain = texts(read(f"{kind}:{tmp_path / name}"))
    (tmp_path / name).write_bytes(mark + data)
    assert texts(read(f"{kind}:{tmp_path / name}")) == plain
  lines = JSONL.split(b"\n")  # as `cat` joins files
  lines[30] = mark + lines[30]
  (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(lines))
  assert texts(read(f"jsonl:{tmp_path / 'a.jsonl'}")) == plain
  for text in "ab":
    (tmp_path / f"{text}.txt").write_bytes(mark + text.encode())
  (tmp_path / "c.txt").write_bytes(mark)  # nothing but a mark: dropped as empty
  splits = read(f"text:{tmp_path}")
  assert sorted(text for part in texts(splits).values() for text in part) == [
    "",
    "a",
    "b",
  ]


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"text": "a", "n": %s}' % ("7" * 5000), "line 2 cannot be read: Exceeds the"),
    ('{"text": "a", "n": ' + "[" * 99999 + "]" * 99999 + "}", "line 2 is nested too"),
    ('{"text": null}', "line 2: wanted an object with a string 'text', got {'text': "),
    ('{"text": ["a"]}', "line 2: wanted an object"),
    ('{"text": "a", "text": "b"}', "line 2 cannot be read: it has 'text' twice"),
    ('{"data": {"text": "a"}}', "got {'data': 'dict'}"),
    ('{"text": "a"}{"text": "b"}', "line 2 is not JSON: Extra data"),
    ('"text"', "line 2: wanted an object with a string 'text', got str"),
    ("NaN", "line 2: wanted an object with a string 'text', got float"),
  ],
)
def test_an_odd_line_is_named(line, message, tmp_path):
  (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
  assert message in refused(f"jsonl:{tmp_path / 'a.jsonl'}")


def test_odd_values_beside_a_text_do_no_harm(tmp_path):
  ids = ['"a\\ud800"', "7", "null", "NaN", "[1]", "true", '""']
  rows = [f'{{"text": "t{n}", "x": Infinity, "id": {i}}}' for n, i in enumerate(ids)]
  (tmp_path / "a.jsonl").write_text("\n".join(rows))
  splits = read(f"jsonl:{tmp_path / 'a.jsonl'}")
  records = {r["text"]: r["id"] for split in splits.values() for r in split}
  names = ["a\ufffd", "7", *(f"a.jsonl:{n}" for n in range(3, 7)), ""]
  assert records == {f"t{n}": name for n, name in enumerate(names)}


@pytest.fixture
def folder(tmp_path):
  """Returns a folder of ten files."""
  for n in range(10):
    path = tmp_path / "texts" / f"part{n % 2}" / f"{n}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(f"{n}{word}" for word in "abcdefghijklmnopq" * 3))
  return tmp_path / "texts"


def names(folder):
  splits = read(f"text:{folder}")
  return sorted(record["id"] for split in splits.values() for record in split)


PLAIN = sorted(f"part{n % 2}/{n}.txt" for n in range(10))


def test_links_are_followed_once(folder, tmp_path):
  before = sources.fingerprint(f"text:{folder}", cache="unused")
  (folder / "a_loop").symlink_to(folder)
  (folder / "part0" / "up").symlink_to("..")
  (folder / "again").symlink_to(folder / "part1")
  (folder / "1.txt").symlink_to(folder / "part1" / "1.txt")
  (folder / "gone.txt").symlink_to(folder / "nowhere")
  (folder / "itself.txt").symlink_to("itself.txt")
  assert names(folder) == PLAIN
  assert sources.fingerprint(f"text:{folder}", cache="unused") == before
  outside = tmp_path / "outside"
  outside.mkdir()
  (outside / "x.txt").write_text("from another place")
  (folder / "first").symlink_to(outside)
  (folder / "second").symlink_to(outside)
  (folder / "third.txt").symlink_to(outside / "x.txt")
  assert names(folder) == [*sorted(["first/x.txt", *PLAIN])]
  assert names(tmp_path / "texts" / "a_loop") == names(folder)


def test_what_is_left_out_is_counted_in_the_report(folder, tmp_path):
  (folder / "._1.txt").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X \xb0\xb1")
  (folder / ".hidden").mkdir()
  (folder / ".hidden" / "x.txt").write_text("hidden")
  (folder / ".DS_Store").write_bytes(b"\x00")  # no text by its name: not counted
  (folder / "empty.txt").touch()
  (folder / "b.txt.gz").write_bytes(gzip.compress(b"a compressed one, with other text"))
  with parallel.Workers(1) as workers:
    job, reports = build.clean(
      tmp_path / "job", f"text:{folder}", {}, workers, cache="unused", log=print
    )
  assert len(job.kept("train")) + len(job.kept("heldout")) == 11
  report = reports["train"]
  assert report.as_dict()["left_out"] == {"hidden": 2, "empty": 1}
  assert "left out 2: hidden (._1.txt, .hidden)" in report.lines()
  for path in folder.glob("part*/*"):
    path.unlink()
  (folder / "b.txt.gz").unlink()
  assert refused(f"text:{folder}").endswith(
    "but what is left out (empty: empty.txt; hidden: ._1.txt, .hidden)"
  )


def test_names_need_not_be_utf8(folder):
  odd = os.fsencode(folder) + b"/caf\xe9.txt"
  with open(odd, "wb") as file:
    file.write(b"of the coffee")
  assert names(folder) == sorted([*PLAIN, "caf\\xe9.txt"])
  assert len(sources.fingerprint(f"text:{folder}", cache="unused")) == 64
