"""Documents in the formats that are sources: write(kind, path, documents)."""

import gzip
import json

import pyarrow
from array_record.python import array_record_module
from pyarrow import parquet

DOCUMENTS = [
  {"id": f"page {n}", "text": f"{n} na\u00efve words\r\n\r\nof {n % 7} \U0001f600 " * 9}
  for n in range(60)
]


def write(kind: str, path, documents=None):
  """Writes documents, by default DOCUMENTS, to a file; returns the source's name.

  `kind` is a key of WRITERS: "jsonl", ..., or "texts", an ArrayRecord file of texts
  alone.
  """
  WRITERS[kind](path, DOCUMENTS if documents is None else documents)
  return f"{'arrayrecord' if kind == 'texts' else kind.partition('.')[0]}:{path}"


def lines(documents) -> list[bytes]:
  return [json.dumps(document).encode() for document in documents]


def jsonl(path, documents):
  path.write_bytes(b"\n".join(lines(documents)))


def columns(path, documents, **options):
  table = pyarrow.table({key: [d[key] for d in documents] for key in ("id", "text")})
  parquet.write_table(table, path, **({"row_group_size": 7} | options))


def records(path, contents):
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:4")
  for data in contents:
    writer.write(data)
  writer.close()


def archive_record(kind: str, name: str, body: bytes, **headers) -> bytes:
  """Returns a record of a web archive."""
  rows = {"WARC-Type": kind, "WARC-Target-URI": name, "Content-Length": len(body)}
  rows |= {key.replace("_", "-"): value for key, value in headers.items()}
  head = "".join(f"{key}: {value}\r\n" for key, value in rows.items())
  return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + body + b"\r\n\r\n"


def conversions(documents) -> list[bytes]:
  """Returns the records of a WET file."""
  info = archive_record("warcinfo", "", b"software: none\r\n")
  texts = [
    archive_record("conversion", d["id"], d["text"].encode(), Content_Type="text/plain")
    for d in documents
  ]
  return [info, *texts]


WRITERS = {
  "jsonl": jsonl,
  "jsonl.gz": lambda path, documents: path.write_bytes(
    gzip.compress(b"\n".join(lines(documents)))
  ),
  "parquet": columns,
  "arrayrecord": lambda path, documents: records(path, lines(documents)),
  "texts": lambda path, documents: records(
    path, [document["text"].encode() for document in documents]
  ),
  "warc": lambda path, documents: path.write_bytes(b"".join(conversions(documents))),
  "warc.gz": lambda path, documents: path.write_bytes(  # a member a record, as crawlers
    b"".join(map(gzip.compress, conversions(documents)))
  ),
}
