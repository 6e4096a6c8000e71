"""The share of held-out texts that training texts have in part: n-grams of words."""

import itertools
import re

N = 8  # words; a shorter text counts as a whole
LONGEST, LEAST = 13, 8  # words in a row by which an Index finds a text
# A word, or one character of a script that has no spaces between words.
ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+")


def share(train_texts, heldout_texts, n: int = N) -> float:
  """Returns the share of held-out texts with an n-gram that is in a training text.

  Case and punctuation do not count; a Chinese character is a word.
  """
  seen = set()
  for text in train_texts:
    seen |= _grams(text, n)
  hits = [not seen.isdisjoint(_grams(text, n)) for text in heldout_texts]
  return sum(hits) / len(hits)


class Index:
  """An index of texts, to look up those of which another text has a part.

  That is LONGEST words in a row, or all words of a text of LEAST words or more; texts
  of fewer are not looked up.
  """

  def __init__(self, texts: dict[str, list[str]]):
    """`texts` are {name: the texts with this name}."""
    self._name_of, self._words = {}, set()
    for name, several in texts.items():
      for gram in itertools.chain.from_iterable(_grams(t, LONGEST) for t in several):
        if len(gram) >= LEAST:
          self._name_of.setdefault(gram, name)
          self._words.update(gram)
    self._sizes = sorted({len(gram) for gram in self._name_of})

  def find(self, text: str) -> str:
    """Returns the name of a text of which another one has a part, "" for none."""
    parts, start = words(text), 0
    # Few texts have so many words of the index in a row, whatever their order.
    for is_known, run in itertools.groupby(parts, self._words.__contains__):
      end = start + len(list(run))
      if is_known:
        for size in self._sizes:
          for first in range(start, end - size + 1):
            if name := self._name_of.get(tuple(parts[first : first + size])):
              return name
      start = end
    return ""


def words(text: str) -> list[str]:
  """Returns the words of a text of any script, without case and punctuation."""
  return _WORD.findall(text.casefold())


def _grams(text: str, n: int) -> set[tuple]:
  parts = words(text)
  return {tuple(parts[i : i + n]) for i in range(max(1, len(parts) - n + 1))}
