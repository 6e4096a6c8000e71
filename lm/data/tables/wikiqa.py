"""Questions on the first paragraphs of Wikipedia's articles, made by rules.

The paragraphs are those of the table wikipedia:en (CC BY-SA), about 10,000;
lm/data/tables/_clozes.py makes the questions.
They are to learn from, not to be scored on: that needs questions of people.
"""

import functools

from lm.data.sources._records import hash64
from lm.data.tables import _clozes, wikipedia

MOST = 4  # questions of an article


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns of the table `squad`."""
  return {"train": _all(str(cache))}


@functools.cache  # it takes seconds, and a run reads its records twice
def _all(cache: str) -> list[dict]:
  articles = wikipedia.read("en", cache=cache)["train"]
  return [record for article in articles for record in _records(article)]


def _records(article: dict):
  title, context = article["title"], article["text"]
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
