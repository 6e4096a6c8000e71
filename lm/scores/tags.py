"""Tags of words: accuracy, and F1 of entities where tags mark their beginnings."""

import numpy as np

from lm.scores.intervals import bootstrap


def tagging(actual, predicted) -> dict:
  """Returns accuracy over words and, of tags such as "B-PER", F1 of entities.

  Both are lists of sentences, each a list of tags; "" is no tag, for a word that was
  not read. The 95 % intervals come from resampling sentences, whose words depend on
  each other. `commonest_tag` is what a constant answer scores.
  """
  sentences = list(zip(actual, predicted, strict=True))
  hits_R = [sum(a == b for a, b in zip(*pair, strict=True)) for pair in sentences]
  words_R = [len(tags) for tags in actual]
  ratio = lambda sums_O: sums_O[..., 0] / np.maximum(sums_O[..., 1], 1)
  _, counts = np.unique([tag for tags in actual for tag in tags], return_counts=True)
  scores = {
    "accuracy": sum(hits_R) / sum(words_R),
    "accuracy_95": bootstrap(np.stack([hits_R, words_R], axis=1), ratio),
    "commonest_tag": float(counts.max() / counts.sum()),
    "words": sum(words_R),
    "records": len(sentences),
  }
  if any(tag[:2] in ("B-", "I-") for tags in actual for tag in tags):
    scores |= _of_entities(sentences)
  return scores


def _of_entities(sentences) -> dict:
  """Returns precision, recall and F1 of entities, all with their type and borders."""
  parts_RO = np.array([_counts(*map(entities, pair)) for pair in sentences])
  precision, recall, f1 = map(float, _precision_recall_f1(parts_RO.sum(0)))
  interval = bootstrap(parts_RO, lambda sums_O: _precision_recall_f1(sums_O)[2])
  return {"precision": precision, "recall": recall, "f1": f1, "f1_95": interval}


def _counts(actual: set, predicted: set) -> tuple[int, int, int]:
  return len(actual & predicted), len(predicted), len(actual)


def _precision_recall_f1(sums_O):
  hits, predicted, actual = np.moveaxis(np.asarray(sums_O, np.float64), -1, 0)
  precision = hits / np.maximum(predicted, 1)
  recall = hits / np.maximum(actual, 1)
  return precision, recall, 2 * hits / np.maximum(predicted + actual, 1)


def entities(tags) -> set[tuple[str, int, int]]:
  """Returns (type, first word, last word) of the entities in a sentence's tags.

  As the script conlleval of CoNLL-2000 has it, for IOB, IOBES and the like: one begins
  at B and S, and at any tag but O that does not go on with the type before it.
  """
  result, begin, before = set(), 0, ("O", "")
  for place, tag in enumerate([*tags, "O"]):
    state, _, kind = (tag or "O").partition("-")
    now = (state, kind)
    if before[0] != "O" and (_ends(before[0], state) or before[1] != kind):
      result.add((before[1], begin, place - 1))
    if state != "O" and (_begins(before[0], state) or before[1] != kind):
      begin = place
    before = now
  return result


def _ends(before: str, state: str) -> bool:
  return before in ("E", "S") or state in ("B", "S", "O")


def _begins(before: str, state: str) -> bool:
  return state in ("B", "S") or before in ("E", "S", "O")
