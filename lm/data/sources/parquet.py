"""Parquet files: the text in the column "text", perhaps a name in "id".

A document is a row; about 5% are held out by hash of their texts. A chunk is one row
group or several small ones. Only these two columns are read.
"""

import contextlib
import pathlib
from dataclasses import dataclass

from lm.data.sources import _chunks, _globs, _records
from lm.errors import Mistake, check_installed

VERSION = 1
ARGUMENT = (
  "a Parquet file with the text in its column 'text', or a pattern of them such as "
  "'data/*.parquet'"
)
BATCH_BYTES = 1 << 20  # of text that is decoded at a time
MAX_ROWS = 1 << 12  # at a time: a dictionary makes long texts of few bytes
BUFFER_BYTES = 1 << 20  # of a column that is read at a time


def of_file(file: pathlib.Path):
  """Yields the chunks of a file, none of one without rows.

  Raises Mistake for another kind of file, and for other columns.
  """
  size = file.stat().st_size
  with _opened(file) as opened:
    metadata = opened.metadata
    if not metadata.num_rows:
      return
    columns = _columns(opened.schema_arrow, file)
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    wanted = [i for i, path in enumerate(paths) if path in columns]
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    sizes = [
      sum(group.column(i).total_uncompressed_size for i in wanted) for group in groups
    ]
  start, first = 0, 1
  for stop in range(1, len(rows) + 1):
    num_rows, num_bytes = sum(rows[start:stop]), sum(sizes[start:stop])
    if stop == len(rows) or num_bytes + sizes[stop] > _chunks.CHUNK_BYTES:
      yield Groups(file, start, stop, first, num_rows, num_bytes, size)
      start, first = stop, first + num_rows


chunks, content = _globs.source(
  of_file, "parquet:PATH of a .parquet file", "a row or more"
)


@dataclass(frozen=True)
class Groups:
  """Row groups of a file from one to another."""

  path: pathlib.Path
  start: int
  stop: int
  first: int  # the number of the first row, from 1
  num_rows: int
  num_bytes: int
  size: int  # of the file

  def read(self):
    rows = BATCH_BYTES * self.num_rows // max(1, self.num_bytes)
    with _globs.unchanged(self.path, self.size), _opened(self.path) as opened:
      batches = opened.iter_batches(
        min(max(1, rows), MAX_ROWS),
        row_groups=range(self.start, self.stop),
        columns=_columns(opened.schema_arrow, self.path),
        use_threads=False,
      )
      row = self.first
      for batch in batches:
        for record in _read(batch, self.path, row):
          yield record, _records.hash64(record["text"].encode())
        row += batch.num_rows
    if row != self.first + self.num_rows:
      raise Mistake(f"{self.path} changed while it was read; start again")


def _read(batch, path: pathlib.Path, first: int):
  """Yields the records of a batch; Mistake, with the row, for a cell without a text."""
  texts = _values(batch.column("text"), path, first)
  has_names = "id" in batch.schema.names
  names = _values(batch.column("id"), path, first) if has_names else [None] * len(texts)
  for row, (text, name) in enumerate(zip(texts, names, strict=True), first):
    if text is None:
      raise Mistake(f"{path} row {row}: wanted a text, got null")
    name = str(name) if type(name) in (str, int) else f"{path.name}:{row}"
    yield {"id": name, "text": text}


def _values(column, path: pathlib.Path, first: int) -> list:
  """Returns the values of a column; Mistake, with the row, for what is not UTF-8."""
  if hasattr(column, "dictionary"):
    column = column.dictionary_decode()
  try:
    return column.to_pylist()
  except UnicodeDecodeError:
    for row, cell in enumerate(column, first):
      _records.utf8(cell.as_buffer().to_pybytes(), f"{path} row {row}")
    raise


def _columns(schema, path: pathlib.Path) -> list[str]:
  """Returns the columns to read; Mistake unless the one of texts holds strings."""
  import pyarrow

  names = schema.names
  if names.count("text") != 1:
    raise Mistake(f"{path} has the columns {', '.join(names)}; wanted one named 'text'")
  kind = schema.field("text").type
  if pyarrow.types.is_dictionary(kind):
    kind = kind.value_type
  tests = (pyarrow.types.is_string, pyarrow.types.is_large_string)
  if not any(is_kind(kind) for is_kind in tests):
    raise Mistake(f"{path}: the column 'text' holds {kind}; wanted string")
  return [name for name in ("text", "id") if names.count(name) == 1]


@contextlib.contextmanager
def _opened(path: pathlib.Path):
  """The file within a block; Mistake for what is damaged, or no Parquet file."""
  check_installed("pyarrow", f"{path}: Parquet")
  import pyarrow
  from pyarrow import parquet

  options = dict(pre_buffer=False, buffer_size=BUFFER_BYTES)
  try:
    with parquet.ParquetFile(
      str(path), page_checksum_verification=True, **options
    ) as file:
      yield file
  except (pyarrow.ArrowException, OSError) as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise  # of the disk, not of the data
    reason = str(error).partition("\n")[0]
    raise Mistake(f"{path} is damaged or no Parquet file: {reason}") from error
