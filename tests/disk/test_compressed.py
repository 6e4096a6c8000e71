"""Compressed files: several in a row, cut anywhere, damaged, and read out of order."""

import bz2
import gzip
import lzma
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.disk import compressed

ZSTD = compressed._zstd()
PACKERS = {
  "gzip": gzip.compress,
  "bzip2": bz2.compress,
  "xz": lzma.compress,
  "zstd": ZSTD.compress,
}
PARTS = [
  b"".join(b"%d lines of %d\n" % (n, part) for n in range(99)) for part in (7, 8)
]


def read(path, data: bytes) -> bytes:
  path.write_bytes(data)
  with compressed.open(path) as file:
    return file.read()


def refused(path, data: bytes):
  with pytest.raises(ValueError) as error:
    read(path, data)
  assert "\n" not in str(error.value)
  assert str(error.value).startswith(f"{path} is damaged or cut off: ")


@pytest.mark.parametrize("kind", list(PACKERS))
def test_several_in_a_row_are_one_file(kind, tmp_path):
  parts = [PACKERS[kind](part) for part in (*PARTS, b"", *PARTS)]
  assert read(tmp_path / "a", b"".join(parts)) == b"".join(PARTS * 2)
  assert compressed.kind(tmp_path / "a") == kind
  if kind != "zstd":  # tapes and disks have zeros at the end
    assert read(tmp_path / "a", b"".join(parts) + bytes(700)) == b"".join(PARTS * 2)


@pytest.mark.parametrize("kind", list(PACKERS))
def test_a_file_cut_anywhere_but_between_two_is_refused(kind, tmp_path):
  first, last = (PACKERS[kind](part) for part in PARTS)
  for place in range(20, len(first + last)):
    if place != len(first):
      refused(tmp_path / "a", (first + last)[:place])
  # Nothing in the file says that there was another one.
  assert read(tmp_path / "a", first) == PARTS[0]


@pytest.mark.parametrize("kind", list(PACKERS))
def test_nothing_after_a_damaged_start_is_left_out_in_silence(kind, tmp_path):
  first, last = (PACKERS[kind](part) for part in PARTS)
  for wrong in (b"\xff" + last[1:], last[:2] + b"\xff" + last[3:], b"garbage", b"\n"):
    refused(tmp_path / "a", first + wrong)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 400)), max_size=9))
@pytest.mark.parametrize("kind", list(PACKERS))
def test_it_is_read_from_any_place(kind, tmp_path_factory, places):
  path, whole = tmp_path_factory.mktemp("compressed") / "a", b"".join(PARTS)
  path.write_bytes(b"".join(map(PACKERS[kind], PARTS)))
  with compressed.open(path) as file:
    for start, size in places:
      assert file.seek(start) <= start
      assert file.read(size) == whole[start : start + size]
      assert file.tell() == max(min(start, len(whole)), min(start + size, len(whole)))
    file.seek(0)
    assert list(file) == whole.splitlines(keepends=True)


def test_zstd_of_other_programs(tmp_path):
  """Checks `pzstd`, which puts sizes between the frames, and `zstd --long=31`."""
  frames = [ZSTD.compress(part) for part in PARTS]
  skipped = [struct.pack("<III", 0x184D2A50, 4, len(frame)) for frame in frames]
  parts = [skipped[0], frames[0], skipped[1], frames[1]]
  assert read(tmp_path / "a", b"".join(parts)) == b"".join(PARTS)
  parameter = ZSTD.CompressionParameter
  options = {parameter.window_log: 30, parameter.enable_long_distance_matching: 1}
  packer = ZSTD.ZstdCompressor(options=options)
  data = packer.compress(PARTS[0]) + packer.flush()
  assert read(tmp_path / "a", data) == PARTS[0]
