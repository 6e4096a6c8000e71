"""Texts that need no model: the first words of a text, and a word for each word."""

import re

import numpy as np

ROUNDS = 5  # of expectation and maximisation
LINKS = 1 << 22  # pairs of words that a dictionary is learnt from, at most
_WORD = re.compile(r"\w+|[^\w\s]")
_END = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[\u3002\uff01\uff1f])")


def lead(text: str, *, sentences: int) -> str:
  """Returns the first sentences of a text, a line each."""
  parts = [part.strip() for part in _END.split(text) if part.strip()]
  return "\n".join(parts[:sentences])


def first_words(text: str, count: int) -> str:
  """Returns the first words of a text; a text without spaces is one word."""
  return " ".join(text.split()[:count])


class Dictionary:
  """The likeliest word for each word, learnt from pairs of texts.

  IBM model 1 (Brown et al. 1993, Computational Linguistics 19), from the first pairs
  with LINKS pairs of words. `chance(source, target)` is the probability of a word given
  another, which is None for the word that stands for nothing.
  """

  def __init__(self, pairs, rounds: int = ROUNDS):
    numbers = {None: 0}, {}
    link_source, link_target, link_place, place, size = [], [], [], 0, 0
    for pair in pairs:
      source, target = (
        [ids.setdefault(word, len(ids)) for word in _words(text)]
        for ids, text in zip(numbers, pair, strict=True)
      )
      source = [0, *source]
      size += len(source) * len(target)
      if size > LINKS:
        break
      link_source.append(np.tile(source, len(target)))
      link_target.append(np.repeat(target, len(source)))
      link_place.append(np.repeat(place + np.arange(len(target)), len(source)))
      place += len(target)
    self._numbers = numbers
    words = max(1, len(numbers[1]))
    keys = np.concatenate(link_source).astype(np.int64) * words
    keys, link = np.unique(keys + np.concatenate(link_target), return_inverse=True)
    self._source, self._target = np.divmod(keys, words)
    self._chance = np.full(len(keys), 1 / words)
    self._learn(link, np.concatenate(link_place), rounds)
    # Of equal chances the last in a sorted order counts: the word that came first.
    order = np.lexsort((-self._target, self._chance))
    best = dict(zip(self._source[order], self._target[order], strict=True))
    other = list(numbers[1])
    self._best = {w: other[best[n]] for w, n in numbers[0].items() if n in best}

  def _learn(self, link, place, rounds: int):
    for _ in range(rounds):
      chance = self._chance[link]
      chance /= np.bincount(place, chance)[place]
      count = np.bincount(link, chance)
      self._chance = count / np.bincount(self._source, count)[self._source]

  def chance(self, source, target) -> float:
    """Returns the probability of `target` given `source`; 0 where they never met."""
    first, second = (
      ids.get(word, -1)
      for ids, word in zip(self._numbers, (source, target), strict=True)
    )
    is_link = (self._source == first) & (self._target == second)
    return float(self._chance[is_link].sum())

  def translate(self, text: str) -> str:
    """Returns the text word by word; a word that is not known stays as it is."""
    return " ".join(self._best.get(word, word) for word in _words(text))


def _words(text: str) -> list[str]:
  return _WORD.findall(text)
