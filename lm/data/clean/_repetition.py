"""The filter "repetition": texts that repeat themselves, by lines or n-grams of words.

Rae et al. 2021 (arXiv:2112.11446), appendix A, with the limits of its table A1: a text
goes if too much of it is in lines or paragraphs that were there before, in its
commonest 2-, 3- or 4-gram, or in 5- to 10-grams that were there before. Of n-grams that
overlap the first counts. They are of words with symbols (see _parts.py); in Chinese and
Japanese of twice as many, for there a word is one character.
"""

import re

import numpy as np

from lm.data.clean._parts import UNSPACED, Parts

REPEATED, REPEATED_CHARS = 0.3, 0.2  # shares of lines and of paragraphs
COMMONEST = {2: 0.2, 3: 0.18, 4: 0.16}  # {n: share of all characters}
BEFORE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
_PARAGRAPHS = re.compile(r"\n{2,}")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: odd, bits well spread


def repetition(parts: Parts) -> str:
  """Returns the reason to drop a text that repeats itself, "" for none."""
  paragraphs = _PARAGRAPHS.split(parts.text.strip())
  for name, units in (("paragraphs", paragraphs), ("lines", parts.lines)):
    number, chars = repeated(units)
    if number > REPEATED * len(units):
      return f"over {REPEATED:.0%} of {name} are repeats"
    if chars > REPEATED_CHARS * len(parts.text):
      return f"over {REPEATED_CHARS:.0%} of characters in repeated {name}"
  return _of_ngrams(parts)


def repeated(units: list[str]) -> tuple[int, int]:
  """Returns (the number of texts that were there before, their characters)."""
  first = dict.fromkeys(units)
  return len(units) - len(first), sum(map(len, units)) - sum(map(len, first))


def _of_ngrams(parts: Parts) -> str:
  """Returns the reason to drop a text for its n-grams, from short to long ones."""
  number_of = {word: number for number, word in enumerate(parts.counts, 1)}
  ids_n = np.array([number_of[word] for word in parts.words], np.uint64)
  sizes_n = np.array([len(word) for word in parts.words], np.int64)
  ends_n = np.concatenate([[0], np.cumsum(sizes_n)])
  chars, spaces = len(parts.text), 0 if parts.mostly(*UNSPACED) else 1
  length = 2 if parts.mostly("CJK", "HIRAGANA", "KATAKANA") else 1
  commonest, before = (
    {n * length: share * chars for n, share in limits.items()}
    for limits in (COMMONEST, BEFORE)
  )
  # Places in the text of those n-grams that are in it more than once, and their hashes.
  place_p, hash_p = np.arange(len(ids_n)), ids_n * _MIX
  for n in range(2, max(before) + 1):
    place_p, hash_p = _longer(place_p, hash_p, ids_n, n)
    first_p, times_p = _grouped(hash_p)
    if n in commonest and len(ids_n) >= n:
      # Where no n-gram repeats, the first of the text stands for all.
      times = times_p.max(initial=1)
      place = place_p[np.argmax(times_p == times)] if times > 1 else 0
      if (ends_n[place + n] - ends_n[place] + spaces * (n - 1)) * times > commonest[n]:
        share = COMMONEST[n // length]
        return f"over {share:.0%} of characters in one {n}-gram"
    place_p, hash_p, first_p = (x[times_p > 1] for x in (place_p, hash_p, first_p))
    if n in before:
      # Most texts are far below the limit even if all that overlap were counted.
      most = _covered(place_p[~first_p], n, sizes_n)
      if most > before[n] and _chars_before(place_p, hash_p, n, ends_n) > before[n]:
        share = BEFORE[n // length]
        return f"over {share:.0%} of characters in repeated {n}-grams"
  return ""


def _longer(place_p, hash_p, ids_n, n: int):
  """Returns (places, hashes) of n-grams that may repeat, of those of (n - 1)-grams.

  An n-gram that is there twice begins and ends with an (n - 1)-gram that is.
  """
  goes_on = np.flatnonzero(np.diff(place_p) == 1)
  place_p, hash_p = place_p[goes_on], hash_p[goes_on]
  hash_p = (hash_p ^ (hash_p >> np.uint64(29))) * _MIX
  return place_p, hash_p + ids_n[place_p + (n - 1)]


def _grouped(hash_p):
  """Returns (True where a hash is the first of its value, how often the value is)."""
  order_p = np.argsort(hash_p)
  sorted_p = hash_p[order_p]
  is_new_p = np.ones(len(hash_p), bool)
  is_new_p[1:] = sorted_p[1:] != sorted_p[:-1]
  start_g = np.flatnonzero(is_new_p)
  times_g = np.diff(start_g, append=len(hash_p))
  times_p, is_first_p = np.empty(len(hash_p), np.int64), np.zeros(len(hash_p), bool)
  times_p[order_p] = np.repeat(times_g, times_g)
  if len(hash_p):
    is_first_p[np.minimum.reduceat(order_p, start_g)] = True
  return is_first_p, times_p


def _covered(place_q, n: int, sizes_n) -> int:
  """Returns the characters of all words that are in n-grams at some places."""
  steps_n = np.zeros(len(sizes_n) + 1, np.int64)
  np.add.at(steps_n, place_q, 1)
  np.add.at(steps_n, place_q + n, -1)
  return int(sizes_n[np.cumsum(steps_n[:-1]) > 0].sum())


def _chars_before(place_p, hash_p, n: int, ends_n) -> int:
  """Returns the characters of n-grams that were there before, overlapping ones once."""
  seen, chars, free = set(), 0, 0
  for place, value in zip(place_p.tolist(), hash_p.tolist(), strict=True):
    if place < free:
      continue
    if value in seen:
      chars += int(ends_n[place + n] - ends_n[place])
      free = place + n
    else:
      seen.add(value)
  return chars
