"""Leads of Wikipedia: by language, without the topic that is none."""

import json

import pytest
import weights

from lm.data import tables
from lm.data.sources import packages

ARTICLES = {
  "a": dict(title="A", extract="A is a letter.", description="letter", topic="Arts"),
  "b": dict(title="B", extract="B, too.", description="", topic="Uncategorized"),
}


def test_an_article_is_a_record_and_a_group(monkeypatch, tmp_path):
  files = {"summaries_fr-fr.json": json.dumps(ARTICLES).encode()}
  monkeypatch.setattr(packages, "texts", lambda name, cache: files)
  first, second = tables.read("wikipedia:fr", cache=tmp_path)["train"]
  assert first == {
    "title": "A",
    "text": "A is a letter.",
    "description": "letter",
    "topic": "Arts",
    "group": "A",
  }
  assert (second["description"], second["topic"]) == (None, None)
  with pytest.raises(ValueError, match="table wikipedia 'de'; found: en, es, fr"):
    tables.read("wikipedia:de", cache=tmp_path)


@weights.required
def test_the_package_has_as_many_articles_as_were_counted():
  read = lambda name: tables.read(name, cache=weights.ROOT / ".cache")["train"]
  counts = {x: len(read(f"wikipedia:{x}")) for x in ("en", "fr", "es")}
  assert counts == {"en": 10_033, "fr": 9_955, "es": 6_239}
