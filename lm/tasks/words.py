"""Classification by a decoder that scores a word for each class.

  cfg.task = dict(name="words", train="csv:reviews.csv", labels=("bad", "good"),
                  words=(" terrible", " great"), prompt="{text} It was")

Without a head, and without training too: a class is the word, or the words, that the
model finds likeliest behind the text (Brown et al. 2020, arXiv:2005.14165, section 2.4;
Schick and Schuetze 2021, arXiv:2001.07676). Training makes the right word likelier.
"""

import dataclasses

import numpy as np

from lm.data.packed import Packed
from lm.data.rows import pad_id
from lm.errors import Mistake
from lm.generate import score as scoring
from lm.tasks import classify


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(classify.Task):
  """The classes in a column `label` for the text, or the two, of a record, in words."""

  words: tuple = ()  # what is written for each class; by default a space and its name
  prompt: str = "{text}\n"  # what they follow, with {pair} of two texts

  objective = "next_token"

  def __post_init__(self):
    super().__post_init__()
    if len(set(self.words)) < len(self.words) or not all(self.words):
      raise Mistake(f"task.words={self.words}; wanted other words for each class")
    if "{text}" not in self.prompt or ("{pair}" in self.prompt) != bool(self.pair):
      raise Mistake(
        f"task.prompt={self.prompt!r}; wanted {{text}} in it, and {{pair}} of a pair"
      )

  def resolved(self, splits) -> "Task":
    """Returns the task with its classes and words; Mistake for another number."""
    task = super().resolved(splits)
    words = tuple(self.words) or tuple(f" {label}" for label in task.labels)
    if len(words) != len(task.labels):
      raise Mistake(
        f"task.words={words} for the classes {', '.join(task.labels)}; wanted as many"
      )
    return dataclasses.replace(task, words=words)

  def fields(self) -> dict:
    return {}

  def layout(self, seq: int) -> dict:
    dtypes = {"tokens_T": "int32", "targets_T": "int32", "weights_T": "float32"}
    return dict(sizes={"T": seq}, dtypes=dtypes)

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of texts and their words; only these count in the loss.

    Of a text that is too long the beginning is not read.
    """
    examples, num_cut = [], 0
    for record in records:
      request = scoring.continued(
        tokenizer, self._before(record), self.words[self.number(record)]
      )
      ids = np.concatenate([request.context, request.ids])
      num_cut += len(ids) > seq + 1
      ids = ids[-seq - 1 :]
      is_word = np.arange(len(ids) - 1, 0, -1) <= len(request.ids)
      arrays = dict(tokens_T=ids[:-1], targets_T=ids[1:], weights_T=is_word)
      examples.append(arrays)
    return Packed(examples, **self.layout(seq), pad=pad_id(tokenizer), num_cut=num_cut)

  def _before(self, record: dict) -> str:
    prompt = self.prompt.replace("{pair}", record.get("pair", ""))
    return prompt.replace("{text}", record["text"])

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"label", "probability", "probabilities"} for each record.

    Probabilities are of the words, whole, among those of all classes.
    """
    pairs = [(self._before(r), word) for r in records for word in self.words]
    scores = scoring.score(model, params, tokenizer, pairs)
    logprob_RC = np.array([x.logprob for x in scores]).reshape(len(records), -1)
    chance_RC = np.exp(logprob_RC - np.max(logprob_RC, axis=1, keepdims=True))
    chance_RC /= chance_RC.sum(1, keepdims=True)
    return [self._answer(chance_C) for chance_C in chance_RC]
