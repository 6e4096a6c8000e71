"""A file of questions on texts in the format of SQuAD, version 1.1 or 2.0 (JSON).

The columns are those of TFDS's squad: "id", "title" of the article, "context",
"question", and "answers", {"text": [...], "answer_start": [...]} with the place of each
in the context, both empty for a question that has no answer.
"""

from lm.data.sources import _records
from lm.data.tables import jsonl
from lm.disk import compressed
from lm.errors import Mistake

ARGUMENT = "a file of questions in the JSON of SQuAD"


def read(argument: str, *, cache) -> dict:
  """Returns a record for each question; the file may be compressed."""
  path = jsonl.file(argument, "squad")
  with compressed.open(path) as file:
    content = _records.from_json(file.read(), str(path))
  try:
    records = [
      _record(article.get("title", ""), paragraph["context"], question)
      for article in content["data"]
      for paragraph in article["paragraphs"]
      for question in paragraph["qas"]
    ]
  except (KeyError, TypeError, AttributeError) as error:
    raise Mistake(
      f"{path} is not in SQuAD's format: {error}; wanted data, paragraphs, context, "
      "qas, question, id and answers, as on the site of SQuAD"
    ) from error
  return {"train": records}


def _record(title: str, context: str, question: dict) -> dict:
  impossible = question.get("is_impossible", False)
  answers = [] if impossible else question["answers"]
  return {
    "id": str(question["id"]),
    "title": title or context,  # what is not to be split
    "context": context,
    "question": question["question"],
    "answers": {
      "text": [answer["text"] for answer in answers],
      "answer_start": [answer["answer_start"] for answer in answers],
    },
  }
