"""Translation: a text in another language, by an encoder-decoder or a decoder.

  cfg.task = dict(name="translate", train="debian:en-fr/synopsis")

Scores are those of sacrebleu, with their signatures. Beside them stand two that need no
model: the source as it is, and a word for each word by a dictionary of the pairs.
"""

import dataclasses
import operator

from lm.errors import one_of
from lm.tasks import _writing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(_writing.Writing):
  """The text in a column `target` for the one in a column `source`."""

  source: str = "source"  # the column with the text to translate
  target: str = "target"  # the column with its translation
  tokenize: str = "13a"  # of BLEU, by sacrebleu: zh for Chinese, char for Japanese

  def columns(self) -> dict[str, str]:
    return {"source": self.source, "target": self.target}

  def resolved(self, splits) -> "Task":
    """Raises Mistake for a tokenizer that BLEU does not have."""
    from lm.scores import texts

    one_of("task.tokenize", self.tokenize, texts.TOKENIZERS)
    return self

  def notes(self, splits) -> list[str]:
    """Returns a warning where BLEU would not see the words of a script."""
    from lm.scores import texts

    written = [record["target"] for record in splits.heldout]
    if self.tokenize != "13a" or not texts.has_unspaced(written):
      return []
    return [
      "warning: targets have no spaces between words, and BLEU counts words by 13a; "
      "set task.tokenize=zh for Chinese, or char"
    ]

  def score(self, answers, records) -> dict:
    """Returns BLEU and chrF with intervals and signatures; see lm.scores.texts."""
    return self._scores([answer["text"] for answer in answers], records)

  def baselines(self, splits) -> dict:
    """Returns BLEU and chrF of the source itself and of a dictionary's words."""
    from lm.scores.baselines import Dictionary

    sources = [record["source"] for record in splits.heldout]
    pair = operator.itemgetter("source", "target")
    dictionary = Dictionary(map(pair, splits.train))
    written = {"copy": sources, "dictionary": map(dictionary.translate, sources)}
    scores = {}
    for name, texts in written.items():
      values = self._scores(list(texts), splits.heldout, intervals=False)
      scores |= {f"{name}_{metric}": value for metric, value in values.items()}
    return scores

  def _scores(self, texts, records, **options) -> dict:
    from lm.scores.texts import translation

    references = [record["target"] for record in records]
    return translation(texts, references, tokenize=self.tokenize, **options)
