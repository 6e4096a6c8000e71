"""ArrayRecord files: a record is a JSON object with a text in "text", or plain text.

The first record of a file says which. About 5% are held out by hash of the records.
"""

import contextlib
import pathlib
import re
from dataclasses import dataclass

from lm.data.sources import _chunks, _globs, _records, jsonl
from lm.errors import Mistake

VERSION = 1
ARGUMENT = (
  "an ArrayRecord file of JSON objects with the text in their field 'text', or of "
  "texts, or a pattern of them such as 'data/*.arrayrecord'"
)
BATCH_BYTES = 1 << 20  # of records that are read at a time
# Small buffers: a chunk is read in order by one thread.
OPTIONS = "readahead_buffer_size:1M,max_parallelism:0"
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def of_file(file: pathlib.Path):
  """Yields the chunks of a file, none of one without records."""
  size = file.stat().st_size
  with _opened(file) as reader:
    num = reader.num_records()
    if not num:
      return
    is_json = _is_json(reader.read([0])[0], file)
    places = sorted({i * num // _chunks.PROBES for i in range(_chunks.PROBES)})
    probes = reader.read(places)
  mean = max(1, sum(map(len, probes)) // len(probes))
  each = max(1, _chunks.CHUNK_BYTES // mean)
  for start in range(0, num, each):
    stop = min(start + each, num)
    yield Range(file, start, stop, mean * (stop - start), size, is_json)


chunks, content = _globs.source(
  of_file, "arrayrecord:PATH of an ArrayRecord file", "a record or more"
)


@dataclass(frozen=True)
class Range:
  """The records of a file from one to another, counted from 0."""

  path: pathlib.Path
  start: int
  stop: int
  num_bytes: int
  size: int  # of the file
  is_json: bool

  def read(self):
    each = max(1, BATCH_BYTES * (self.stop - self.start) // self.num_bytes)
    with _globs.unchanged(self.path, self.size), _opened(self.path) as reader:
      for start in range(self.start, self.stop, each):
        places = list(range(start, min(start + each, self.stop)))
        yield from map(self._document, reader.read(places), places)

  def _document(self, data: bytes, place: int) -> tuple[dict, int]:
    where, name = f"{self.path} record {place + 1}", f"{self.path.name}:{place + 1}"
    number = _records.hash64(data.strip() if self.is_json else data)
    if self.is_json:
      return jsonl.record(data, where, name), number
    return {"id": name, "text": _records.utf8(data, where)}, number


@contextlib.contextmanager
def _opened(path: pathlib.Path):
  """A reader within a block; Mistake for what is damaged, or no ArrayRecord file."""
  from array_record.python import array_record_module

  reader = array_record_module.ArrayRecordReader(str(path), OPTIONS)
  try:
    with contextlib.closing(reader):  # which raises the reason of one that is not ok
      if not reader.ok():
        raise Mistake(f"{path} is damaged or no ArrayRecord file")
      yield reader
  except (RuntimeError, IndexError) as error:
    reason = str(error).partition("\n")[0]
    raise Mistake(f"{path} is damaged or no ArrayRecord file: {reason}") from error


def _is_json(data: bytes, path: pathlib.Path) -> bool:
  """Returns True for a JSON object; Mistake for what is neither that nor a text."""
  if data.lstrip().startswith(b"{"):
    return True
  if _CONTROLS.search(data):
    raise Mistake(
      f"{path} has binary records; wanted JSON objects or UTF-8 texts (tfds:NAME reads "
      "the data sets of TFDS)"
    )
  return False
