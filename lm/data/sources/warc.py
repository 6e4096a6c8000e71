"""Web archives: the pages of WARC as text, and the text of WET as it is.

Documents are responses of HTML with status 200, of which resiliparse extracts the main
text, and conversions to plain text; their names are the URLs, and about 5% are held out
by hash of their texts. A page that cannot be decoded is a document without text, which
cleaning drops and counts. A file is a chunk, read record by record.
"""

import functools
import pathlib
import re
from dataclasses import dataclass

from lm.data.sources import _globs, _records
from lm.disk import compressed
from lm.errors import Mistake, check_installed

VERSION = 1
ARGUMENT = (
  "a .warc or .wet file, which may be compressed, or a pattern of them such as "
  "'crawl/*.wet.gz'"
)
HEAD_BYTES = 1 << 16  # of a response, in which its header ends
SKIPPED_BYTES = 1 << 20  # that are read at a time of what is no document
_STATUS = re.compile(rb"HTTP/[\d.]+ 200\b")
_TYPE = re.compile(rb"(?im)^content-type:[ \t]*(text/html|application/xhtml\+xml)\b")
_BLANK = (b"\r\n", b"\n", b"\r")  # the last one where a file is cut


def of_file(file: pathlib.Path):
  """Yields the chunk of a file, none of an empty one."""
  if size := file.stat().st_size:
    yield Pages(file, size)


chunks, content = _globs.source(
  of_file, "warc:PATH of a .warc or .wet file", "a page or more"
)


@dataclass(frozen=True)
class Pages:
  """The documents of an archive."""

  path: pathlib.Path
  num_bytes: int  # of the file

  def read(self):
    place = 0
    with (
      _globs.unchanged(self.path, self.num_bytes),
      compressed.damage(lambda: f"{self.path}: the record at byte {place}"),
      compressed.reader(self.path) as file,
    ):
      while line := _first_line(file):
        place = file.tell() - len(line)
        where = f"{self.path}: the record at byte {place}"
        headers = _headers(file, line, where)
        body = _Body(file, int(headers["content-length"]), where)
        text = _text(headers, body, where)
        if text is not None:
          name = headers.get("warc-target-uri", "").strip("<>")
          record = {"id": name or f"{self.path.name}:{place}", "text": text}
          yield record, _records.hash64(text.encode())
        while body.left:
          body.read(SKIPPED_BYTES)


class _Body:
  """The bytes of a record, of which `left` are not read yet."""

  def __init__(self, file, length: int, where: str):
    self._file, self.left, self._where = file, length, where

  def read(self, size: int) -> bytes:
    """Returns `size` bytes, fewer at the end of the record; Mistake if they lack."""
    size = min(size, self.left)
    data = self._file.read(size)
    self.left -= len(data)
    if len(data) < size:
      raise Mistake(f"{self._where} is cut off: it lacks {self.left} bytes")
    return data


def _first_line(file) -> bytes:
  """Returns the next line that is not blank, none at the end of the file."""
  while (line := file.readline(HEAD_BYTES)) in _BLANK:
    pass
  return line


def _headers(file, line: bytes, where: str) -> dict[str, str]:
  """Returns {name in lower case: value} of a record's header, whose first line is read.

  Raises Mistake for what is no record, and for one that ends too early.
  """
  if not line.startswith(b"WARC/"):
    raise Mistake(f"{where} begins with {line[:20]!r}; wanted WARC/1.0 or WARC/1.1")
  headers = {}
  while line not in _BLANK:
    if not line.endswith(b"\n"):
      raise Mistake(f"{where} is cut off, within its header")
    name, _, value = line.decode("utf-8", "replace").partition(":")
    headers[name.strip().lower()] = value.strip()
    line = file.readline(HEAD_BYTES)
  length = headers.get("content-length", "none")
  if not (length.isascii() and length.isdigit()):
    raise Mistake(f"{where} has the Content-Length {length!r}; wanted a number")
  return headers


def _text(headers: dict[str, str], body: _Body, where: str) -> str | None:
  """Returns the text of a record, None of one that is no document."""
  kind = headers.get("warc-type", "").lower()
  if kind == "continuation":
    raise Mistake(f"{where} continues another one; wanted records in one segment")
  if kind == "conversion":
    is_text = headers.get("content-type", "text/plain").startswith("text/plain")
    return _records.utf8(body.read(body.left), where) if is_text else None
  if kind != "response":
    return None
  start = body.read(HEAD_BYTES)
  head = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
  if not _STATUS.match(head) or not _TYPE.search(head):
    return None
  return _extract()(start + body.read(body.left))


@functools.cache
def _extract():
  """Returns a function from a response of HTTP to its main text."""
  check_installed("resiliparse", "the text of HTML")
  from fastwarc.warc import WarcRecord
  from resiliparse.extract.html2text import extract_plain_text
  from resiliparse.parse import encoding

  def extract(response: bytes) -> str:
    head = "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http"
    head += f"; msgtype=response\r\nContent-Length: {len(response)}\r\n\r\n"
    try:
      record = WarcRecord.from_bytes(head.encode() + response)
      record.parse_http(auto_decode="all", strict_mode=False)
      page = record.reader.read()
    except OSError:  # not compressed, or not in parts, as its header has it
      return ""
    charset = encoding.map_encoding_to_html5(record.http_charset or "", False)
    charset = charset or encoding.detect_encoding(page, from_html_meta=True)
    html = encoding.bytes_to_str(page, charset or "utf-8", "replace")
    return extract_plain_text(html, main_content=True, alt_texts=False)

  return extract
