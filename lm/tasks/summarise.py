"""Summaries of texts, written by an encoder-decoder or a decoder.

  cfg.task = dict(name="summarise", train="debian:en")

Scores are those of rouge-score. Beside them stand two that need no model: the first
sentences of the text, and as many of its first words as summaries have.
"""

import dataclasses

from lm.data import overlap
from lm.errors import one_of, positive
from lm.tasks import _writing

WORDS = ("ascii", "unicode")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(_writing.Writing):
  """The text in a column `summary` for the one in a column `text`."""

  text: str = "text"  # the column with the text
  summary: str = "summary"  # the column with its summary
  words: str = "ascii"  # of ROUGE, as published; "unicode": of any script
  stemmer: bool = True  # words of ROUGE lose their endings; "ascii" only
  lead: int = 1  # sentences of the first baseline; 3 for news

  names = ("text", "summary")

  def __post_init__(self):
    super().__post_init__()
    one_of("task.words", self.words, WORDS)
    positive(self, "lead")

  def columns(self) -> dict[str, str]:
    return {"text": self.text, "summary": self.summary}

  def notes(self, splits) -> list[str]:
    """Returns a warning where ROUGE would not see the letters of a script."""
    from lm.scores import texts

    written = [record["summary"] for record in splits.heldout]
    if self.words != "ascii" or not texts.has_other_script(written):
      return []
    return [
      "warning: summaries are not in Latin letters, and ROUGE reads a to z alone; set "
      "task.words=unicode"
    ]

  def score(self, answers, records) -> dict:
    """Returns ROUGE with intervals; see lm.scores.texts."""
    stemmed = self.stemmer and self.words == "ascii"
    scores = self._scores([answer["text"] for answer in answers], records)
    return scores | {"rouge_words": f"{self.words}{', stemmed' if stemmed else ''}"}

  def baselines(self, splits) -> dict:
    """Returns ROUGE of the first sentences, and of the first words, of each text."""
    from lm.scores import baselines

    records = splits.heldout
    lengths = [len(record["summary"].split()) for record in records]
    count = max(1, round(sum(lengths) / len(lengths)))
    written = {
      f"lead_{self.lead}": [
        baselines.lead(record["text"], sentences=self.lead) for record in records
      ],
      f"first_{count}_words": [
        baselines.first_words(record["text"], count) for record in records
      ],
    }
    return {
      f"{name}_{metric}": value
      for name, texts in written.items()
      for metric, value in self._scores(texts, records, intervals=False).items()
    }

  def _scores(self, texts, records, **options) -> dict:
    from lm.scores.texts import summaries

    references = [record["summary"] for record in records]
    words = overlap.words if self.words == "unicode" else None
    options |= dict(words=words, stemmer=self.stemmer)
    return summaries(texts, references, **options)
