"""Web archives: pages of HTML as text, what is no document, and files that are cut."""

import bz2
import gzip
import importlib.util
import zlib

import formats
import pytest
from formats import archive_record

from lm.data import sources
from lm.data.sources import warc
from lm.disk import compressed

PAGE = """<!doctype html><html><head><title>Foxes</title></head><body>
<nav><a href="/">home</a> <a href="/more">more</a></nav>
<main><h1>Foxes</h1><p>A na\u00efve fox &amp; its dog \u2014 both of them quick \u2014
jump over everything that there is to jump over.</p><pre>  two\n  lines</pre></main>
<script>var x = 1</script><footer>imprint</footer></body></html>"""
TEXT = (
  "Foxes\n\nA na\u00efve fox & its dog \u2014 both of them quick \u2014 jump over "
  "everything that there is to jump over.\n\n  two\n  lines"
)


def response(body: bytes, *headers: str, status: str = "200 OK", name="http://a/"):
  """Returns a record of an answer of HTTP."""
  head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
  return archive_record("response", name, head.encode() + body)


def html(charset: str) -> str:
  return f"Content-Type: text/html; charset={charset}"


def read(path, *records):
  """Returns the documents of a file with these records."""
  path.write_bytes(b"".join(records))
  chunks, _ = sources.chunks(f"warc:{path}", cache="unused")
  return [record for chunk in chunks for record, _ in chunk.read()]


def refused(path, *records) -> str:
  with pytest.raises(ValueError) as error:
    read(path, *records)
  assert "\n" not in str(error.value)
  return str(error.value)


def parted(data: bytes) -> bytes:
  """Returns data as HTTP's Transfer-Encoding: chunked."""
  parts = [data[place : place + 99] for place in range(0, len(data), 99)]
  return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize(
  "body, headers",
  [
    (PAGE.encode(), [html("utf-8")]),
    (PAGE.encode("cp1252"), [html("windows-1252")]),
    (PAGE.encode("utf-16-le"), [html("utf-16le")]),
    (PAGE.encode(), ["content-TYPE:application/xhtml+xml"]),
    (PAGE.encode(), [html("no-such-charset")]),
    (b"\xef\xbb\xbf" + PAGE.encode(), ["Content-Type: text/html"]),
    (gzip.compress(PAGE.encode()), [html("utf-8"), "Content-Encoding: gzip"]),
    (zlib.compress(PAGE.encode()), [html("utf-8"), "Content-Encoding: deflate"]),
    (parted(PAGE.encode()), [html("utf-8"), "Transfer-Encoding: chunked"]),
    (
      parted(gzip.compress(PAGE.encode())),
      [html("utf-8"), "Content-Encoding: gzip", "Transfer-Encoding: chunked"],
    ),
  ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_the_text_of_a_page(body, headers, pack, tmp_path):
  [record] = read(tmp_path / "a", pack(response(body, *headers, name="<http://a/>")))
  assert record == {"id": "http://a/", "text": TEXT}


def test_what_is_no_page_is_no_document(tmp_path):
  big = b"\0" * (2 * warc.SKIPPED_BYTES)
  records = [
    archive_record("warcinfo", "", b"software: none"),
    archive_record("request", "http://a/", b"GET / HTTP/1.1\r\n\r\n"),
    response(big, "Content-Type: video/mp4"),
    response(PAGE.encode(), html("utf-8"), status="404 Not Found"),
    response(PAGE.encode(), "X-Content-Type: text/html"),
    archive_record("revisit", "http://a/", b""),
    archive_record("conversion", "http://a/", big, Content_Type="image/png"),
    response(PAGE.encode(), html("utf-8"), name="http://b/"),
    archive_record("metadata", "http://b/", b"outlink: http://c/"),
  ]
  assert [r["id"] for r in read(tmp_path / "a", *records)] == ["http://b/"]
  assert "is empty; wanted a page or more" in refused(tmp_path / "a", *records[:6])


def test_a_page_that_cannot_be_decoded_is_an_empty_document(tmp_path):
  """Checks that cleaning can count it, with its name."""
  packed = gzip.compress(PAGE.encode())
  damaged = packed[:30] + bytes(30) + packed[60:]
  records = [
    response(damaged, html("utf-8"), "Content-Encoding: gzip", name="http://a/"),
    response(b"zz\r\n" + PAGE.encode(), html("utf-8"), "Transfer-Encoding: chunked"),
    response(b"", html("utf-8")),
    response(PAGE.encode() + b"\xff", html("utf-8"), name="http://b/"),
  ]
  documents = read(tmp_path / "a", *records)
  assert [bool(record["text"]) for record in documents] == [False, False, False, True]
  assert documents[0]["id"] == "http://a/"


def test_a_record_without_a_url_is_named_by_its_place(tmp_path):
  first = archive_record("warcinfo", "", b"")
  [record] = read(tmp_path / "a.wet", first, archive_record("conversion", "", b"x"))
  assert record["id"] == f"a.wet:{len(first)}"


RECORDS = formats.conversions(formats.DOCUMENTS[:6])
ENDS = [sum(map(len, RECORDS[:n])) for n in range(len(RECORDS) + 1)]


def cuts(ends, step: int):
  """Returns places to cut a file, none of them between two records."""
  return [place for place in range(1, ends[-1], step) if place not in ends]


def test_a_cut_file_is_refused_with_the_record(tmp_path):
  data = b"".join(RECORDS)
  for place in cuts(ENDS, 7):
    record = max(end for end in ENDS if end <= place)
    if {place + 1, place + 2, place + 3, place + 4} & {*ENDS}:
      continue  # the record is whole, and only its blank lines lack
    message = refused(tmp_path / "a", data[:place])
    assert message.startswith(f"{tmp_path}/a: the record at byte {record} "), message
    assert any(x in message for x in ("is cut off", "begins with"))


@pytest.mark.parametrize("is_apart", [False, True])
@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_a_cut_compressed_file_is_refused_with_the_record(kind, is_apart, tmp_path):
  pack = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": importlib.import_module("lzma").compress,
    "zstd": compressed._zstd().compress,
  }[kind]
  parts = [pack(r) for r in RECORDS] if is_apart else [pack(b"".join(RECORDS))]
  ends = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
  data = b"".join(parts)
  assert len(read(tmp_path / "a", data)) == 6
  for place in cuts(ends, 11)[2:]:
    message = refused(tmp_path / "a", data[:place])
    assert f"{tmp_path}/a: the record at byte " in message, message
    assert "is damaged or cut off" in message


@pytest.mark.parametrize(
  "data, error",
  [
    (b"hello\n" * 9, "the record at byte 0 begins with b'hello\\n'; wanted WARC/1.0"),
    (RECORDS[1] + b"x\r\n" + RECORDS[2], f"byte {len(RECORDS[1])} begins with b'x"),
    (b"WARC/1.0\r\nWARC-Type: response\r\n\r\n", "has the Content-Length 'none'"),
    (b"WARC/1.0\r\nContent-Length: -1\r\n\r\n", "has the Content-Length '-1'; wanted"),
    (archive_record("continuation", "http://a/", b"more"), "byte 0 continues another"),
    (
      archive_record("conversion", "http://a/", b"caf\xe9"),
      "0 is not UTF-8: byte 0xe9",
    ),
  ],
)
def test_odd_records_are_named(data, error, tmp_path):
  assert error in refused(tmp_path / "a", data)


def test_html_without_its_package_is_named_and_wet_needs_none(tmp_path, monkeypatch):
  real = importlib.util.find_spec
  absent = lambda name: None if name == "resiliparse" else real(name)
  monkeypatch.setattr(importlib.util, "find_spec", absent)
  warc._extract.cache_clear()
  error = "needs resiliparse; .venv/bin/python -m pip install resiliparse"
  assert error in refused(tmp_path / "a", response(PAGE.encode(), html("utf-8")))
  assert len(read(tmp_path / "a", *RECORDS)) == 6
