"""Robustness: the same records with typing errors, in another case, and so on.

Each change leaves a text with the class that it had (the invariances of CheckList,
arXiv:2005.04118). Scores are paired: over the texts that a change alters, the accuracy
lost, the share of answers that flip, and the class that is answered worst afterwards.
"""

import random
import re

import numpy as np

from lm.scores.intervals import wilson
from lm.study.checks import Row, chances
from lm.study.compare import bootstrap

KIND = "classes"
EVERY = 10  # words of which one, at least, gets a typing error
# Words in which two letters inside can be exchanged; not those of Chinese or Japanese.
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]{4,}")
_FINAL = re.compile(r"[\s.!?,;:…。！？，；：]+$")


def typos(text: str) -> str:
  """Returns the text with two inner letters of every tenth word exchanged."""
  draw = random.Random(text)
  words = [match for match in _WORD.finditer(text) if _places(match[0])]
  chosen = draw.sample(words, k=-(-len(words) // EVERY))
  for match in sorted(chosen, key=lambda match: -match.start()):
    place = match.start() + draw.choice(_places(match[0]))
    exchanged = text[place + 1] + text[place]
    text = text[:place] + exchanged + text[place + 2 :]
  return text


def _places(word: str) -> list[int]:
  """Returns the places of inner letters that differ from the next inner one."""
  return [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]


def upper(text: str) -> str:
  """Returns the text in capitals."""
  return text.upper()


def lower(text: str) -> str:
  """Returns the text without capitals."""
  return text.lower()


def unpunctuated(text: str) -> str:
  """Returns the text without the punctuation at its end."""
  return _FINAL.sub("", text) or text


def longer(text: str) -> str:
  """Returns the text with words around it that say nothing."""
  if re.search(r"[\u3400-\u9fff]", text):
    return f"下面是原文。{text} 以上是原文。"
  return f"The text begins here. {text} The text ends here."


CHANGES = {
  "typing errors": typos,
  "upper case": upper,
  "lower case": lower,
  "no punctuation at the end": unpunctuated,
  "longer": longer,
}


def check(subject, argument: str = "") -> list[Row]:
  """Returns the accuracy lost, the flips and the worst class of each change."""
  del argument
  records, cases, variants = subject.items.records, [], []
  for case, change in CHANGES.items():
    texts = [change(record["text"]) for record in records]
    index = [i for i, r in enumerate(records) if texts[i] != r["text"]]
    if index:
      cases.append((case, np.array(index)))
      variants += [records[i] | {"text": texts[i]} for i in index]
  # At once: each call of a task compiles anew.
  after_RC, start, rows = chances(subject.answered(variants)), 0, []
  for case, index_R in cases:
    end = start + len(index_R)
    rows += compared(subject, case, index_R, after_RC[start:end].argmax(1))
    start = end
  return rows


def compared(subject, case: str, index_R, after_R) -> list[Row]:
  """Returns the rows of a change from the answers before and after it."""
  actual_R = subject.actual_R[index_R]
  before_R = subject.chance_RC[index_R].argmax(1)
  lost_R = (before_R == actual_R) * 1.0 - (after_R == actual_R)
  flips, count = int((before_R != after_R).sum()), len(index_R)
  shares = {
    number: float(np.mean(after_R[actual_R == number] == number))
    for number in np.unique(actual_R)
  }
  worst = min(shares, key=shares.get)
  own = after_R[actual_R == worst] == worst
  row = lambda *values: Row("robustness", case, *values)
  return [
    row("accuracy lost", float(lost_R.mean()), bootstrap(lost_R), count),
    row("flips", flips / count, wilson(flips, count), count),
    row(
      f"accuracy of {subject.labels[worst]} (worst class)",
      shares[worst],
      wilson(int(own.sum()), own.size),
      own.size,
    ),
  ]
