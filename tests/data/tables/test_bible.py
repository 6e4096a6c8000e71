"""Verses of two Bibles in SWORD's format, joined by their places."""

import contextlib
import struct
import zlib

import pytest

from lm.data import tables
from lm.data.tables import _apt

ENGLISH = [
  ["<div type='book'/><title>Genesis</title> ", 'In the <w a="b">beginning</w>.'],
  ["Now <note>or: then</note> these.", "Only here."],
]
SPANISH = [["<title>Génesis</title>", "En el principio."], ["Estos pues.", ""]]


def plant(folder, books):
  """Writes a testament of books, each a list of verses; the other one is empty."""
  folder.mkdir(parents=True)
  index, blocks, data = b"", b"", b""
  for number, book in enumerate(books):
    whole = b""
    for verse in map(str.encode, book):
      index += struct.pack("<IIH", number, len(whole), len(verse))
      whole += verse
    packed = zlib.compress(whole)
    blocks += struct.pack("<III", len(data), len(packed), len(whole))
    data += packed
  for ending, content in (("bzv", index), ("bzs", blocks), ("bzz", data)):
    (folder / f"ot.{ending}").write_bytes(content)
    (folder / f"nt.{ending}").write_bytes(b"")


def test_verses_are_joined_by_place_and_grouped_by_book(tmp_path, monkeypatch):
  plant(tmp_path / "files" / "ztext" / "engKJV1", ENGLISH)
  plant(tmp_path / "files" / "ztext" / "spaRV1", SPANISH)
  fetched = []

  @contextlib.contextmanager
  def unpacked(packages):
    fetched.append(packages)
    yield tmp_path / "files"

  monkeypatch.setattr(_apt, "unpacked", unpacked)
  records = tables.read("bible:es-en", cache=tmp_path)["train"]
  assert records == [
    dict(
      source="En el principio.",
      target="In the beginning.",
      place="ot:0:2",
      group="ot:0",
    ),
    dict(source="Estos pues.", target="Now these.", place="ot:1:1", group="ot:1"),
  ]
  assert tables.read("bible:es-en", cache=tmp_path)["train"] == records
  assert fetched == [["sword-text-sparv", "sword-text-kjv"]]
  with pytest.raises(ValueError, match="no table bible:en-fr; wanted en-es, or es-en"):
    tables.read("bible:en-fr", cache=tmp_path)
