"""Questions made of sentences: the answer is in its place, and out of the question."""

import json

import pytest

from lm.data import tables
from lm.data.sources import packages
from lm.data.tables import _clozes


@pytest.mark.parametrize(
  "text, title, question, answer",
  [
    (
      "Ada Lovelace was an English writer and a mathematician.",
      "Ada Lovelace",
      "Who was an English writer and a mathematician?",
      "Ada Lovelace",
    ),
    (
      "The house was built in 1884 by a merchant of the town.",
      "House",
      "In what year was the house built by a merchant of the town?",
      "1884",
    ),
    (
      "It was painted (twice) in Paris, and is the best known work.",
      "A Sunday",
      "Where was A Sunday painted and is the best known work?",
      "Paris",
    ),
    (
      "The island has about 124 people who speak a language.",
      "Island",
      "How many people has the island who speak a language?",
      "124",
    ),
    (
      "He was born on 12 June 1929 as the son of a baker.",
      "Karl Mann",
      "On what date was Karl Mann born as the son of a baker?",
      "12 June 1929",
    ),
  ],
)
def test_a_sentence_becomes_a_question(text, title, question, answer):
  made = list(
    _clozes.clozes(f"Nobody came. {text} Nobody.", title, is_person=title[0] == "A")
  )
  assert (question, answer) in [(x.question, x.answer) for x in made]


@pytest.mark.parametrize(
  "text",
  [
    "Nobody knows how the wheel turns when nobody looks.",  # nothing to ask for
    "Then, as Paris grew, the old walls fell and few remember.",  # no auxiliary
    "Rome was the enemy of Rome in all of its wars.",  # the question has the answer
  ],
)
def test_other_sentences_make_none(text):
  assert list(_clozes.clozes(text, "Title", is_person=False)) == []


def test_records_are_those_of_squad(monkeypatch, tmp_path):
  lead = "Karl Mann was a baker of the town. He was born in 1929 in the old mill. "
  article = dict(title="Karl Mann", extract=lead * 3, topic="People", description="")
  articles = {"Karl Mann": article}
  files = {"summaries_en-us.json": json.dumps(articles).encode()}
  monkeypatch.setattr(packages, "texts", lambda name, cache: files)
  records = tables.read("wikiqa", cache=tmp_path)["train"]
  assert 2 <= len(records) <= 4
  for record in records:
    [text], [start] = record["answers"].values()
    assert record["context"][start : start + len(text)] == text
    assert text not in record["question"]
  assert len({record["id"] for record in records}) == len(records)
