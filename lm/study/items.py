"""Held-out items of an experiment, and what a model scores on each of them.

Items are the records of a task, or texts: the held-out documents of a corpus, in
passages where they are few. Texts have no ids here, so that models with different
tokenizers are scored on the same ones.
"""

import dataclasses
import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from lm import data, evaluate, tasks
from lm.data import examples
from lm.errors import Mistake
from lm.generate import score as scoring
from lm.log.progress import progress

FEW = 50  # documents; fewer are cut into passages
PASSAGE = 1_000  # characters of a passage, at most
MOST = 2_000  # texts that are scored, evenly spread
BATCH = 64  # texts between two signs of progress


@dataclasses.dataclass(frozen=True)
class Items:
  """The held-out records of a task, or texts as {"text": ...}."""

  about: str  # of what and how many, in words
  records: list
  task: Any = None  # the lm.tasks Task of records
  note: str = ""  # what a claim from these items does not carry


class Scores(NamedTuple):
  """The score of each item; that of all is their sum, divided by that of weights."""

  values_R: np.ndarray
  weights_R: np.ndarray | None = None  # None: one each
  less: bool = False  # a smaller score is better

  @property
  def mean(self) -> float:
    """The score of all items."""
    count = len(self.values_R) if self.weights_R is None else self.weights_R.sum()
    return float(np.sum(self.values_R) / count)


def of(experiment, *, log=print) -> Items:
  """Returns the held-out items of an Experiment, building its corpus if need be."""
  e = experiment
  if e.task:
    task = tasks.make(e.task)
    records = examples.read(task, cache=e.data.cache).heldout
    if not records:
      raise Mistake(f"{task.train} has no record held out; give task.heldout=TABLE")
    return Items(f"{len(records):,} held-out records of {task.train}", records, task)
  # As bytes, which every text can be read back from; nothing has to be learnt.
  plain = dataclasses.replace(e.data, tokenizer="bytes", rows="concat", corrupt={})
  documents = texts(data.prepare(plain, seq=1, log=log), "heldout")
  about, records, note = f"{len(documents):,} held-out documents", documents, ""
  if len(documents) < FEW:
    note = "Passages of one document are alike: a claim is about text of these alone."
    records = [part for document in documents for part in passages(document)]
    about = f"{len(records):,} passages of {about}"
  if len(records) > MOST:
    about, records = (
      f"{MOST:,} of {about}",
      [records[i] for i in evaluate.spread(len(records), MOST)],
    )
  about = f"{about} of {', '.join(e.sources)}"
  return Items(about, [{"text": text} for text in records], note=note)


def texts(corpora, split: str) -> list[str]:
  """Returns the documents of a split of corpora whose tokens are bytes."""
  documents = []
  for corpus in corpora.corpora:
    tokens, offsets = corpus.tokens(split), corpus.offsets(split)
    for start, end in itertools.pairwise(offsets):
      ids = np.asarray(tokens[int(start) : int(end) - 1])  # without what ends it
      documents.append(ids.astype(np.uint8).tobytes().decode())
  return documents


def passages(text: str) -> list[str]:
  """Returns the parts of a text, which end at white space where it has any."""
  return re.findall(rf"(?s).{{1,{PASSAGE}}}(?:(?<=\s)|\Z)|.{{1,{PASSAGE}}}", text)


def scores(items: Items, model, params, tokenizer, *, seq: int) -> dict[str, Scores]:
  """Returns {metric: Scores} of a model on items.

  Of records, the metrics are those of `task.score` that are means over records: each
  record's is what the task scores for it alone. Of texts it is "bits_per_byte".
  """
  if items.task is None:
    return {"bits_per_byte": of_texts(items, model, params, tokenizer)}
  return of_answers(items, answers(items, model, params, tokenizer, seq=seq))


def checked(items: Items, store) -> Items:
  """Returns the items for the model of a store: their task has its classes' order.

  Reads no weights. Raises Mistake for a model that cannot be scored on these items, and
  for a tokenizer that loses something of a text: the nats of what is left are not those
  of the text.
  """
  model, tokenizer, labels = store.model, store.tokenizer(), store.labels
  if tokenizer is None:
    raise Mistake("it has no tokenizer; text needs one")
  if items.task is None:
    if model.traits.sees != "past" or model.traits.source or model.output != "tokens":
      raise Mistake("it gives a text no probability; wanted a decoder or an LSTM")
    for text in (record["text"] for record in items.records):
      if tokenizer.decode(tokenizer.encode(text)) != text:
        raise Mistake(
          "its tokenizer does not keep every character, so that its bits per byte are "
          f"not those of the text; it loses something of {text[:40]!r}"
        )
    return items
  wanted = items.task.fields()
  if model.output != wanted.get("head", model.output):
    raise Mistake(
      f"its output head is {model.output!r}; the task wants {wanted['head']!r}"
    )
  own = getattr(items.task, "labels", ())
  if labels and own and sorted(labels) != sorted(own):
    raise Mistake(
      f"it has the classes {', '.join(labels)}; wanted those of the task, "
      f"{', '.join(own)}"
    )
  if labels and own:
    return dataclasses.replace(
      items, task=dataclasses.replace(items.task, labels=tuple(labels))
    )
  return items


def answers(items: Items, model, params, tokenizer, *, seq: int) -> list[dict]:
  """Returns the answers of a model to the records of a task, one each."""
  return items.task.answers(model, params, tokenizer, items.records, seq=seq)


def of_answers(items: Items, given) -> dict[str, Scores]:
  """Returns the Scores of answers by metric; raises Mistake where none is a mean."""
  score, metrics = items.task.score, {}
  pairs = zip(given, items.records, strict=True)
  single = [score([answer], [record]) for answer, record in pairs]
  for name, whole in score(given, items.records).items():
    values_R = [one.get(name, math.nan) for one in single]
    if isinstance(whole, tuple) or not math.isclose(np.mean(values_R), whole):
      continue
    if not any(np.array_equal(values_R, other.values_R) for other in metrics.values()):
      metrics[name] = Scores(np.array(values_R, np.float64))
  if not metrics:
    raise Mistake(
      f"no score of task {tasks.options(items.task)['name']!r} is a mean over records; "
      "runs are compared record by record"
    )
  return metrics


def of_texts(items: Items, model, params, tokenizer) -> Scores:
  """Returns the bits and the bytes of each text."""
  documents = [record["text"] for record in items.records]
  results = []
  starts = range(0, len(documents), BATCH)
  for start in progress(starts, unit="batch"):
    part = documents[start : start + BATCH]
    results += scoring.score(model, params, tokenizer, part)
  bits_R = np.array([-result.logprob / math.log(2) for result in results])
  return Scores(bits_R, np.array([len(t.encode()) for t in documents], float), True)
