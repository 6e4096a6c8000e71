"""Answers that are spans of a text: exact match and F1, as SQuAD's own script has them.

Rajpurkar et al. 2016, arXiv:1606.05250; with questions that have no answer, 2018,
arXiv:1806.03822. All scores are shares, where the script prints per cents.
"""

import collections
import re
import string

import numpy as np

from lm.scores.intervals import bootstrap

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(text: str) -> str:
  """Returns a text in lower case without punctuation, articles and doubled spaces."""
  text = ARTICLES.sub(" ", text.lower().translate(PUNCTUATION))
  return " ".join(text.split())


def exact(answer: str, gold: str) -> float:
  """Returns 1 if two texts are the same once they are `normal`, else 0."""
  return float(normal(answer) == normal(gold))


def f1(answer: str, gold: str, *, empty: bool) -> float:
  """Returns F1 of the words of two texts, each word counted as often as it is there.

  With `empty`, as in version 2, two texts without words are equal; else they are not.
  """
  answer_words, gold_words = normal(answer).split(), normal(gold).split()
  if empty and not (answer_words and gold_words):
    return float(answer_words == gold_words)
  common = collections.Counter(answer_words) & collections.Counter(gold_words)
  total = len(answer_words) + len(gold_words)
  return 2 * common.total() / total if total else 0.0


def question(answer: str, golds, *, empty: bool) -> tuple[float, float]:
  """Returns (exact match, F1), each with the reference that it is best for.

  With `empty`, references without words do not count; a question without any has the
  reference "".
  """
  if empty:
    golds = [gold for gold in golds if normal(gold)] or [""]
  scores = [(exact(answer, gold), f1(answer, gold, empty=empty)) for gold in golds]
  return max(x for x, _ in scores), max(x for _, x in scores)


def answering(answers, golds, no_answer=None) -> dict:
  """Returns the scores of answers; `golds` are lists of references, one a question.

  `no_answer` are numbers, the higher the surer that a question has no answer. They are
  for questions of version 2, some of which have no references. Then the scores come for
  both kinds, too, and "best_..." is what the best threshold for these numbers would
  give, chosen in hindsight. Intervals come from resampling questions.
  """
  empty = no_answer is not None
  pairs = [question(*x, empty=empty) for x in zip(answers, golds, strict=True)]
  exact_R, f1_R = np.array(pairs).T
  scores = {}
  for name, values_R in (("exact", exact_R), ("f1", f1_R)):
    scores |= {name: float(values_R.mean()), f"{name}_95": bootstrap(values_R)}
  scores["records"] = len(pairs)
  if not empty:
    return scores
  has_answer_R = np.array([any(map(normal, texts)) for texts in golds])
  for name, is_kind_R in (("has_answer", has_answer_R), ("no_answer", ~has_answer_R)):
    if is_kind_R.any():
      scores[f"{name}_exact"] = float(exact_R[is_kind_R].mean())
      scores[f"{name}_f1"] = float(f1_R[is_kind_R].mean())
  for name, values_R in (("exact", exact_R), ("f1", f1_R)):
    best, threshold = best_threshold(answers, values_R, no_answer, has_answer_R)
    scores |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
  return scores


def best_threshold(answers, scores_R, no_answer, has_answer_R) -> tuple[float, float]:
  """Returns (the best mean score, the threshold above which no answer is given)."""
  order = np.argsort(np.asarray(no_answer), kind="stable")
  is_text_R = np.array([bool(answer) for answer in answers])
  gain_R = np.where(has_answer_R, scores_R, np.where(is_text_R, -1.0, 0.0))[order]
  totals = np.cumsum([np.sum(~has_answer_R), *gain_R])
  best = int(np.argmax(totals))
  threshold = float(np.asarray(no_answer)[order[best - 1]]) if best else 0.0
  return float(totals[best] / len(answers)), threshold
