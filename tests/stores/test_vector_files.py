"""Files of word vectors: read as their writers meant them, or refused in one line.

The formats are those of word2vec.c, GloVe's glove.c, fastText's saveVectors and
gensim's save_word2vec_format, written out by hand.
"""

import bz2
import gzip
import lzma
import pathlib
import struct

import numpy as np
import pytest

from lm.stores import vectors

WORDS = ["the", ",", "na\u00efve", "new\u00a0york", "\u4e2d\u6587", "nan", "7", "</s>"]
ROWS = np.random.default_rng(0).standard_normal((len(WORDS), 5)).astype(np.float32)


def text(*, header="", between=" ", end="\n", words=WORDS):
  """Returns a file of text; `end` is what stands behind the numbers of a line."""
  rows = zip(words, ROWS, strict=False)
  lines = [between.join([word, *map(str, row)]) + end for word, row in rows]
  return (header + "".join(lines)).encode()


def binary(*, header="8 5\n", end=b"", words=WORDS, rows=ROWS):
  parts = [header.encode()]
  for word, row in zip(words, rows, strict=False):
    parts += [word.encode(), b" ", row.astype("<f4").tobytes(), end]
  return b"".join(parts)


WRITERS = {
  "word2vec.c -binary 0": text(header="8 5\n", end=" \n"),
  "word2vec.c -binary 1": binary(end=b"\n"),
  "gensim, text": text(header="8 5\n"),
  "gensim, binary": binary(),
  "glove.c": text(),
  "glove.c -write-header 1": text(header="8 5\n"),
  "fastText": text(header="8 5\n", end=" \n"),
  "of Windows": text(header="8 5\r\n", end="\r\n"),
  "of Windows, with a mark": b"\xef\xbb\xbf" + text(header="8 5\r\n", end="\r\n"),
  "with a mark": b"\xef\xbb\xbf" + text(),
  "tabs": text(between="\t"),
  "tabs, and a header with one": text(header="8\t5\n", between="\t"),
  "a tab behind the word": text().replace(b" ", b"\t", 1),
  "two spaces": text(between="  "),
  "spaces in front": b"  " + text(end="\n  "),
  "blank lines": text(header="8 5\n\n", end="\n\n") + b"\n",
  "no end of the last line": text().rstrip(),
}


@pytest.mark.parametrize("writer", list(WRITERS))
@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin", "v"])
def test_the_content_decides_how_a_file_is_read(writer, name, tmp_path):
  (tmp_path / name).write_bytes(WRITERS[writer])
  loaded = vectors.read(tmp_path / name)
  assert loaded.words == tuple(WORDS)
  assert loaded.table_VD.tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("writer", ["glove.c", "gensim, binary"])
def test_compressed_files_are_read(writer, suffix, tmp_path):
  pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix]
  data = pack(WRITERS[writer])
  (tmp_path / f"v.bin.{suffix}").write_bytes(data)
  assert vectors.read(tmp_path / f"v.bin.{suffix}")["7"].tolist() == ROWS[6].tolist()
  (tmp_path / f"v.bin.{suffix}").write_bytes(data[:-12])
  assert "is damaged or cut off" in refused(tmp_path / f"v.bin.{suffix}")


def refused(path):
  with pytest.raises(ValueError) as error:
    vectors.read(path)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_words_with_spaces_and_words_that_occur_twice(tmp_path):
  (tmp_path / "v.txt").write_text("the 1 -2.5e-3\n. . 3 4\n. . . 5 6\nthe 7 8\n")
  loaded = vectors.read(tmp_path / "v.txt")
  assert loaded.words == ("the", ". .", ". . .")
  assert loaded.table_VD.tolist() == [[1, np.float32(-2.5e-3)], [3, 4], [5, 6]]
  (tmp_path / "v.txt").write_text("2 2\nat name@domain 1 2\nin York 3 4\n")
  assert vectors.read(tmp_path / "v.txt").words == ("at name@domain", "in York")


def test_a_word_that_was_cut_within_a_character_is_read(tmp_path):
  words = [f"w{n}" for n in range(199)]
  rows = np.ones((200, 2), np.float32)
  data = binary(header="200 2\n", words=words, rows=rows)
  data += b"x" * 97 + b"\xc3 " + struct.pack("<2f", 3, 4)
  (tmp_path / "v.bin").write_bytes(data)
  assert vectors.read(tmp_path / "v.bin")["x" * 97 + "\ufffd"].tolist() == [3, 4]


LATIN_1 = "the 1 2\ncaf\xe9 3 4\nna\xefve 5 6\n".encode("latin1")
WRONG = [
  ("v.bin", b"a b\n", "does not begin with a number of words"),
  ("v.bin", ROWS.tobytes(), "does not begin with a number"),  # glove.c -binary 1
  ("v.bin", b"2 2\na 12345678b 1234", "ends after 1 of 2 words"),
  ("v.bin", b"99999999999 9999999\na ", "and is shorter"),
  ("v.bin", b"0 0\n\x00", "does not begin with a number of words"),
  ("v.bin", binary()[:-3], "ends after 7 of 8 words"),
  ("v.bin", binary(header="7 5\n"), "goes on after the 7 words of its first line"),
  ("v.bin", binary(header="9 5\n"), "ends after 8 of 9 words"),
  ("v.bin", binary(header="8 4\n"), "v.bin: word 2 is b"),
  ("v.bin", binary(header="8 6\n"), "v.bin"),
  ("v.bin", binary(words=["a", "new york", *WORDS]), "v.bin"),
  ("v.bin", binary(rows=ROWS.astype(">f4").view("<f4") * np.nan), "has nan"),
  ("v.txt", b"3 2\na 1 2\n", "has 1 vectors; wanted 3"),
  ("v.txt", b"1 2\na 1 2\nb 1 2\n", "has 2 vectors; wanted 1"),
  ("v.txt", b"2 2\na 1 2\nb 1\n", "v.txt:3 is no word with 2 numbers"),
  ("v.txt", b"2 3\na 1 2\nb 1 2\n", "v.txt:2 is no word with 3 numbers"),
  (
    "v.txt",
    b"2 2\na 1 2 3\nb 1 2 3\n",
    "v.txt:2 has '1' before the 2 numbers of a word",
  ),
  ("v.txt", b"a 1 2\nb 1 2 3\nc 1 2\n", "v.txt:2 has '1' before the 2"),
  ("v.txt", b"a 1 2\nb 1 2\nc 1", "v.txt:3 is no word with 2 numbers"),
  ("v.txt", b"a 1 2\nb 1 2\n 1 2\n", "v.txt:3 is no word with 2 numbers"),
  ("v.txt", b"a 1 2\nb x 2\n", "v.txt:2 holds something that is no number"),
  ("v.txt", b"a 1,5 2\nb 1,5 2\nc 1,5 2\n", "v.txt:1 has '1,5' before the 1 num"),
  ("v.txt", b"a,1,2\nb,1,2\n", "v.txt:1 is no word with 0 numbers"),
  ("v.txt", b"word x y\na 1 2\nb 1 2\n", "v.txt:1 holds something that is no"),
  ("v.txt", b"a 1 nan\n", "the vector of 'a' has nan"),
  ("v.txt", b"a 1 2\nb 1 1e39\n", "the vector of 'b' has"),
  ("v.txt", LATIN_1, r"2 of 3 words are not UTF-8, such as b'caf\xe9'; convert"),
  ("v.txt", text().decode().encode("utf-16"), "is UTF-16; convert it first"),
  ("v.txt", b"", "has 0 vectors; wanted some"),
  ("v.txt", b"8 5\n", "has 0 vectors; wanted 8"),
  ("none.txt", None, "no vectors at"),
  (
    "v.bin",
    b"\xba\x16\x4f\x2f\x0c\x00\x00\x00",
    "is a model of fastText; give the .vec",
  ),
  ("v.kv", b"\x80\x04\x95", "is a pickle, which is not read; write it with save_word"),
  ("v.npy", b"\x93NUMPY\x01", "is an array without words"),
  ("v.zip", b"PK\x03\x04\x14", "is a zip archive; unpack it first"),
]


@pytest.mark.parametrize(("name", "data", "message"), WRONG)
def test_a_wrong_file_is_refused_in_one_line(name, data, message, tmp_path):
  if data is not None:
    (tmp_path / name).write_bytes(data)
  assert message in refused(tmp_path / name)


def test_a_folder_is_refused_and_tilde_is_home(tmp_path, monkeypatch):
  assert "is a folder; wanted a file of word2vec, GloVe or" in refused(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  vectors.Vectors(("a",), ROWS[:1]).write("~/v.bin")
  assert vectors.read(pathlib.Path("~/v.bin")).words == ("a",)
