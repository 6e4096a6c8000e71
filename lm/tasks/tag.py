"""Tagging of words: names, parts of speech, any tag for each word of a sentence.

  cfg.task = dict(name="tag", train="conll:train.txt", heldout="conll:test.txt")

A word's tag is read at its first token, from the output head "labels".
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from lm import tasks
from lm.data.packed import Packed, cut
from lm.data.rows import pad_id
from lm.errors import Mistake
from lm.scores import tags as scores
from lm.tasks import _classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The tags in a column `tags` for the words in a column `words`.

  Both are lists, or texts that white space splits.
  """

  words: str = "words"  # the column with the words
  tags: str = "tags"  # the column with their tags
  labels: tuple = ()  # the tags in their order; by default those of `train`, sorted

  objective = "tag"

  def __post_init__(self):
    _classes.check(self.labels)

  def columns(self) -> dict[str, str]:
    return {"words": self.words, "tags": self.tags}

  def texts(self, record: dict) -> list[str]:
    return [" ".join(_items(record["words"]))]

  def resolved(self, splits) -> "Task":
    """Returns the task with the tags of the training records.

    Raises Mistake for another number of tags than words, and for a tag that is none of
    `labels`.
    """
    values = {}
    for split in ("train", "heldout"):
      records = getattr(splits, split)
      for record in records:
        words, tags = (_items(record[name]) for name in ("words", "tags"))
        if len(words) != len(tags) or not words:
          raise Mistake(
            f"{len(words)} words and {len(tags)} tags in split {split!r}, "
            f"{' '.join(words[:6])!r}; wanted as many, and one at least"
          )
      values[split] = {tag for record in records for tag in _items(record["tags"])}
    names = dict(column=self.tags, table=self.train)
    labels = _classes.resolved(self.labels, values, **names)
    return dataclasses.replace(self, labels=labels)

  def fields(self) -> dict:
    """Returns the fields of a model with an output for every tag, at every token."""
    return {"head": "labels", "classes": len(self.labels)}

  def layout(self, seq: int) -> dict:
    dtypes = {"tokens_T": "int32", "targets_T": "int32", "weights_T": "float32"}
    return dict(sizes={"T": seq}, dtypes=dtypes)

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of records; in one to be answered all tags are the first."""
    number = {label: index for index, label in enumerate(self.labels)}
    examples, num_cut = [], 0
    for record in records:
      words = _items(record["words"])
      ids, first_R = first_tokens(tokenizer, words, seq)
      targets = np.zeros(len(ids), np.int32)
      if "tags" in record:
        class_R = np.array([number[tag] for tag in _items(record["tags"])])
        targets[first_R[first_R >= 0]] = class_R[first_R >= 0]
      weights = np.zeros(len(ids), np.float32)
      weights[first_R[first_R >= 0]] = 1
      num_cut += bool((first_R < 0).any())
      examples.append({"tokens_T": ids, "targets_T": targets, "weights_T": weights})
    return Packed(examples, **self.layout(seq), pad=pad_id(tokenizer), num_cut=num_cut)

  def record(self, prompt: str) -> dict:
    return {"words": prompt.split()}

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"words", "tags"} for each record; a word beyond the row has the tag "".

    So has one that the tokenizer makes nothing of.
    """
    rows, answers = self.rows(records, tokenizer, seq=seq), {}
    classes = tasks.bound(_likeliest, model)
    for example, row, place, class_T in tasks.outputs(classes, params, rows):
      words = _items(records[example]["words"])
      _, first_R = first_tokens(tokenizer, words, seq)
      class_Q = class_T[row["segments_T"] == place + 1]
      tags = [self.labels[class_Q[i]] if i >= 0 else "" for i in first_R]
      answers[example] = {"words": words, "tags": tags}
    return [answers[number] for number in range(len(answers))]

  def shown(self, answer: dict) -> str:
    """Returns a line for people: "Rome/LOC is/O"."""
    pairs = zip(answer["words"], answer["tags"], strict=True)
    return " ".join(f"{word}/{tag or '?'}" for word, tag in pairs)

  def score(self, answers, records) -> dict:
    """Returns accuracy over words, and F1 of entities; see lm.scores.tags."""
    actual = [_items(record["tags"]) for record in records]
    return scores.tagging(actual, [answer["tags"] for answer in answers])


def _likeliest(model, params, batch):
  """Returns class_BT, the likeliest of each token of a batch."""
  segments_BT, variables = batch["segments_BT"], {"params": params}
  inputs = dict(segments_BT=segments_BT, method="features")
  x_BTD = model.apply(variables, batch["tokens_BT"], **inputs).x_BTD
  return jnp.argmax(model.apply(variables, x_BTD, method="label"), axis=-1)


def _items(value) -> list[str]:
  return value.split() if isinstance(value, str) else [str(item) for item in value]


def first_tokens(tokenizer, words: list[str], seq: int):
  """Returns (ids, first_R): the place of the first token of each word among `seq` ids.

  It is -1 for a word that is cut off, or that has no token. The words are read as a
  text, with spaces between them.
  """
  encoding = tokenizer.encoding(" ".join(words))
  ids = np.array(encoding.ids, np.int32)
  ends_R = np.cumsum([len(word) + 1 for word in words]) - 1
  starts_R = ends_R - [len(word) for word in words]
  first_R = np.full(len(words), -1)
  whole = len(ids) if len(ids) <= seq else seq - 1
  for place, (begin, end) in enumerate(encoding.offsets[:whole]):
    number = int(np.searchsorted(ends_R, begin, side="right"))
    is_in_word = begin < end and number < len(words) and starts_R[number] < end
    if is_in_word and first_R[number] < 0:
      first_R[number] = place
  return cut(ids, seq), first_R
