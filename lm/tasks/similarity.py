"""How well word vectors know what people know: similarity, relatedness, analogies.

WordSim-353 (Finkelstein et al. 2002), SimLex-999 (arXiv:1408.3456) and Google's
analogies (arXiv:1301.3781), as the package gensim carries them for its own tests.
"""

import numpy as np

from lm.data.sources import packages
from lm.stores import vectors

FILES = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
ANALOGIES = "questions-words.txt"
BATCH = 512  # analogies at a time


def evaluate(model, params, tokenizer, *, cache) -> dict:
  """The metrics "similarity/..." of a model's vectors, see `scores`.

  The package with the data is fetched into `cache` where it is not installed.
  """
  found = packages.texts("gensim", cache=cache)
  texts = {name: found[name].decode() for name in (*FILES.values(), ANALOGIES)}
  return scores(vectors.of_model(model, params, tokenizer), texts)


def scores(of: vectors.Vectors, texts: dict) -> dict:
  """Spearman's correlations and the share of analogies solved, of files by name.

  "..._known" is the share of pairs or questions all of whose words have a vector, in
  small letters; only these count, and "..._all" gives the others a cosine of 0 (in the
  table of pairs) or counts them as failed (analogies).
  """
  report = {}
  for name, file in FILES.items():
    report |= {f"similarity/{name}{k}": v for k, v in related(of, texts[file]).items()}
  solved = analogies(of, texts[ANALOGIES])
  return report | {f"similarity/analogies{k}": v for k, v in solved.items()}


def related(of: vectors.Vectors, text: str) -> dict:
  """Spearman's correlation of cosines and people's scores, of lines of two words."""
  lines = [line.split("\t") for line in text.splitlines() if line[:1] != "#"]
  pairs = [(one.lower(), other.lower()) for one, other, _ in lines]
  people = np.array([float(score) for *_, score in lines])
  known = np.array([one in of and other in of for one, other in pairs])
  ours = np.zeros(len(pairs))
  ours[known] = [of.similarity(*pairs[i]) for i in np.flatnonzero(known)]
  return {
    "": spearman(ours[known], people[known]),
    "_all": spearman(ours, people),
    "_known": float(known.mean()),
  }


def spearman(x_P, y_P) -> float:
  """The correlation of ranks, those of equals being their mean; nan without spread."""
  x_P, y_P = (ranks(v_P) - (len(v_P) - 1) / 2 for v_P in (x_P, y_P))
  norm = np.sqrt((x_P @ x_P) * (y_P @ y_P))
  return float(x_P @ y_P / norm) if norm else float("nan")


def ranks(x_P) -> np.ndarray:
  """From 0, the mean of its places for a number that comes more than once."""
  _, which_P, count = np.unique(x_P, return_inverse=True, return_counts=True)
  return (np.cumsum(count) - (count + 1) / 2)[which_P]


def analogies(of: vectors.Vectors, text: str) -> dict:
  """The share of "a b c d" solved: d is nearest to b - a + c, but for these three."""
  lines = [line.lower().split() for line in text.splitlines()]
  lines = [words for words in lines if words and words[0] != ":"]
  known = [words for words in lines if all(word in of for word in words)]
  rows = np.array([[of.row(word) for word in words] for words in known])
  rows = rows.reshape(-1, 4)
  solved = 0
  for start in range(0, len(rows), BATCH):
    a, b, c, d = rows[start : start + BATCH].T
    unit_VD = of.unit_VD
    cosine_QV = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
    for given in (a, b, c):
      cosine_QV[np.arange(len(given)), given] = -np.inf
    solved += int(np.sum(np.argmax(cosine_QV, axis=1) == d))
  return {
    "": solved / max(1, len(rows)),
    "_all": solved / max(1, len(lines)),
    "_known": len(rows) / max(1, len(lines)),
  }
