"""Extractive question answering: a span of a text that answers a question on it.

  cfg.task = dict(name="squad", train="squad:train-v2.0.json", heldout="squad:dev.json")

Long texts are read in overlapping windows. Records are those of the tables squad:PATH
and tfds:squad/v1.1: a title, by which the held-out part is chosen, a context, a
question, and answers. With questions that have no answer, "" is an answer, too.
"""

import dataclasses

import numpy as np

from lm import tasks
from lm.data.packed import Packed
from lm.data.rows import pad_id
from lm.data.windows import windows
from lm.errors import Mistake, positive
from lm.scores import spans

COLUMNS = ("id", "question", "context", "answers")
BEST = 20  # starts, and ends, that are combined; and answers that are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The answers of a model with the output head "span"."""

  stride: int = 128  # tokens from where a window begins to where the next does
  longest: int = 30  # tokens of an answer
  no_answer: bool = False  # some questions have none: read from the records
  threshold: float = 0.0  # no answer, where "" scores higher by more than this
  types: bool = False  # the model has vectors for the parts of a row: read from it

  objective = "span"

  def __post_init__(self):
    positive(self, "stride", "longest")

  def columns(self) -> dict[str, str]:
    return {name: name for name in COLUMNS} | {"group": "title"}

  def texts(self, record: dict) -> list[str]:
    return [record["question"], record["context"]]

  def for_model(self, fields: dict) -> "Task":
    return dataclasses.replace(self, types=fields.get("types", 0) > 1)

  def resolved(self, splits) -> "Task":
    """Returns the task, which now knows if there are questions without an answer.

    Raises Mistake for an answer of a training record that is not where it should be.
    """
    for record in splits.train:
      for text, start in _answers(record):
        if not text or record["context"][start : start + len(text)] != text:
          raise Mistake(
            f"record {record['id']} has the answer {text[:40]!r} at {start}, where its "
            f"context has {record['context'][start : start + len(text)][:40]!r}; "
            "correct it or leave it out"
          )
    no_answer = any(not _answers(r) for r in (*splits.train, *splits.heldout))
    return dataclasses.replace(self, no_answer=no_answer)

  def notes(self, splits) -> list[str]:
    """Returns a line about held-out answers that are not where they should be."""
    wrong = sum(
      any(r["context"][i : i + len(text)] != text for text, i in _answers(r))
      for r in splits.heldout
    )
    if not wrong:
      return []
    return [f"warning: heldout has {wrong} answers outside of their context"]

  def fields(self) -> dict:
    return {"head": "span", "classes": 2}

  def layout(self, seq: int) -> dict:
    keys = ["tokens_T", *["types_T"][: self.types], "start_", "end_"]
    return dict(sizes={"T": seq}, dtypes=dict.fromkeys(keys, "int32"))

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of the windows of records; none of them is cut."""
    examples = []
    for record in records:
      answers = _answers(record) if "answers" in record else []
      for window in self._windows(record, tokenizer, seq):
        start, end = 0, 0
        if answers:
          text, begin = answers[0]
          start, end = window.places(begin, begin + len(text))
        arrays = {"tokens_T": window.ids, "start_": start, "end_": end}
        examples.append(arrays | ({"types_T": window.types} if self.types else {}))
    return Packed(examples, **self.layout(seq), pad=pad_id(tokenizer))

  def _windows(self, record: dict, tokenizer, seq: int):
    texts = record["question"], record["context"]
    return windows(tokenizer, *texts, seq=seq, stride=self.stride)

  def record(self, prompt: str) -> dict:
    """Returns the record of a prompt: a question, a line break or a tab, a text."""
    question, _, context = prompt.replace("\t", "\n", 1).partition("\n")
    return {"question": question, "context": context}

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"answer", "score", "no_answer", "candidates"} for each record.

    The score is the sum of the two logits, and `no_answer` that of "" less the best
    one's. `candidates` are the best answers with their scores.
    """
    rows = self.rows(records, tokenizer, seq=seq)
    windows_R = [self._windows(record, tokenizer, seq) for record in records]
    owner = [number for number, own in enumerate(windows_R) for _ in own]
    flat = [window for own in windows_R for window in own]

    nulls, scores = np.full(len(records), np.inf), [{} for _ in records]
    logits = tasks.bound(_logits, model, self.types)
    for example, row, place, logits_TC in tasks.outputs(logits, params, rows):
      logits_QC = logits_TC[row["segments_T"] == place + 1]
      number, window = owner[example], flat[example]
      nulls[number] = min(nulls[number], float(logits_QC[0].sum()))
      for score, begin, end in candidates(logits_QC, window, longest=self.longest):
        text = records[number]["context"][begin:end]
        scores[number][text] = max(score, scores[number].get(text, score))
    return [self._answer(*pair) for pair in zip(scores, nulls.tolist(), strict=True)]

  def _answer(self, scores: dict, null: float) -> dict:
    ranked = sorted(scores.items(), key=lambda item: -item[1])[:BEST] or [("", null)]
    text, score = ranked[0]
    is_none = self.no_answer and null - score > self.threshold
    return {
      "answer": "" if is_none else text,
      "score": null if is_none else score,
      "no_answer": null - score,
      "candidates": [{"answer": text, "score": score} for text, score in ranked],
    }

  def shown(self, answer: dict) -> str:
    return answer["answer"] or "(no answer)"

  def score(self, answers, records) -> dict:
    """Returns exact match and F1 of SQuAD's script; see lm.scores.spans."""
    golds = [[text for text, _ in _answers(record)] for record in records]
    no_answer = [a["no_answer"] for a in answers] if self.no_answer else None
    return spans.answering([answer["answer"] for answer in answers], golds, no_answer)


def _logits(model, types: bool, params, batch):
  """Returns logits_BTC of a batch, with vectors for the parts of rows if `types`."""
  names = ("types_BT", "segments_BT")[not types :]
  inputs, variables = {name: batch[name] for name in names}, {"params": params}
  features = model.apply(variables, batch["tokens_BT"], **inputs, method="features")
  return model.apply(variables, features.x_BTD, method="label")


def _answers(record: dict) -> list[tuple[str, int]]:
  answers = record["answers"]
  return list(zip(answers["text"], answers["answer_start"], strict=True))


def candidates(logits_QC, window, *, longest: int):
  """Yields (score, first character, behind the last one) of answers in a window.

  They are made of the BEST starts and ends; a start counts in the window in which it
  has the most around it.
  """
  start_Q, end_Q = logits_QC.astype(np.float64).T
  inner = np.arange(window.first, window.first + len(window.spans))
  starts = inner[window.is_best]
  starts = starts[np.argsort(-start_Q[starts], kind="stable")[:BEST]]
  ends = inner[np.argsort(-end_Q[inner], kind="stable")[:BEST]]
  length_QP = ends[None] - starts[:, None] + 1
  for i, j in zip(*np.nonzero((length_QP >= 1) & (length_QP <= longest)), strict=True):
    score = float(start_Q[starts[i]] + end_Q[ends[j]])
    first, last = starts[i] - window.first, ends[j] - window.first
    yield score, int(window.spans[first, 0]), int(window.spans[last, 1])
