"""Word vectors against human judgement: similarity, relatedness, analogies.

WordSim-353 (Finkelstein et al. 2002), SimLex-999 (arXiv:1408.3456) and Google's
analogies (arXiv:1301.3781), as the package gensim carries them for its own tests.
"""

import numpy as np

from lm.data.sources import packages
from lm.scores.numbers import spearman
from lm.stores import vectors

FILES = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
ANALOGIES = "questions-words.txt"
BATCH = 512  # analogies at a time


def evaluate(model, params, tokenizer, *, cache) -> dict:
  """Returns the metrics "similarity/..." of a model's word vectors, see `scores`.

  The package with the data is fetched into `cache` unless it is installed.
  """
  files = packages.texts("gensim", cache=cache)
  texts = {name: files[name].decode() for name in (*FILES.values(), ANALOGIES)}
  return scores(vectors.of_model(model, params, tokenizer), texts)


def scores(words: vectors.Vectors, texts: dict) -> dict:
  """Returns correlations and the share of analogies solved, from texts by file name.

  Each metric comes in three forms. The plain name counts only the pairs or questions
  whose words all have a vector, in lower case; "..._known" is the share of those; and
  "..._all" also counts the others, with a cosine of 0 (pairs) or as failed (analogies).
  """
  report = {}
  for name, file in FILES.items():
    correlations = relatedness(words, texts[file])
    report |= {
      f"similarity/{name}{form}": value for form, value in correlations.items()
    }
  solved = analogies(words, texts[ANALOGIES])
  return report | {
    f"similarity/analogies{form}": value for form, value in solved.items()
  }


def relatedness(words: vectors.Vectors, text: str) -> dict:
  """Returns Spearman's correlation of cosines and human scores, in its three forms.

  A line of `text` is two words and a score, separated by tabs.
  """
  lines = [line.split("\t") for line in text.splitlines() if line[:1] != "#"]
  pairs = [(first.lower(), second.lower()) for first, second, _ in lines]
  human_R = np.array([float(score) for *_, score in lines])
  known_R = np.array([first in words and second in words for first, second in pairs])
  cosine_R = np.zeros(len(pairs))
  cosine_R[known_R] = [words.similarity(*pairs[i]) for i in np.flatnonzero(known_R)]
  return {
    "": spearman(cosine_R[known_R], human_R[known_R]),
    "_all": spearman(cosine_R, human_R),
    "_known": float(known_R.mean()),
  }


def analogies(words: vectors.Vectors, text: str) -> dict:
  """Returns the share of "a b c d" solved: d is the nearest word to b - a + c.

  The words a, b and c themselves do not count (3CosAdd).
  """
  lines = [line.lower().split() for line in text.splitlines()]
  questions = [line for line in lines if line and line[0] != ":"]
  answerable = [q for q in questions if all(word in words for word in q)]
  rows = np.array([[words.row(word) for word in question] for question in answerable])
  rows = rows.reshape(-1, 4)
  solved = 0
  for start in range(0, len(rows), BATCH):
    a, b, c, d = rows[start : start + BATCH].T
    unit_VD = words.unit_VD
    cosine_RV = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
    for excluded in (a, b, c):
      cosine_RV[np.arange(len(excluded)), excluded] = -np.inf
    solved += int(np.sum(np.argmax(cosine_RV, axis=1) == d))
  return {
    "": solved / max(1, len(rows)),
    "_all": solved / max(1, len(questions)),
    "_known": len(rows) / max(1, len(questions)),
  }
