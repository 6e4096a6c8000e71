"""The share of held-out texts that training texts have in part: n-grams of words."""

import re

N = 8  # words; a shorter text counts as a whole
# A word, or one character of a script that has no spaces between words.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")


def share(train_texts, heldout_texts, n: int = N) -> float:
  """Returns the share of held-out texts with an n-gram that is in a training text.

  Case and punctuation do not count; a Chinese character is a word.
  """
  seen = set()
  for text in train_texts:
    seen |= _grams(text, n)
  hits = [not seen.isdisjoint(_grams(text, n)) for text in heldout_texts]
  return sum(hits) / len(hits)


def words(text: str) -> list[str]:
  """Returns the words of a text of any script, without case and punctuation."""
  return _WORD.findall(text.casefold())


def _grams(text: str, n: int) -> set[tuple]:
  parts = words(text)
  return {tuple(parts[i : i + n]) for i in range(max(1, len(parts) - n + 1))}
