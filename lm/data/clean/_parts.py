"""A text in words and lines, each split once for all the rules of quality.py.

A word is a run of letters, digits, marks and underscores. A full stop or an @ inside
belongs to it (kernel.org), and so do - , : and / before a digit (1,000), all of an
address of the web (https://...), a - / @ or full stop before it (-1, /proc), and two or
more hyphens behind it with what is between ("end.--"). An apostrophe inside begins the
next word ("it" and "'s"). A Chinese character or a kana is a word, and so are up to
five letters in a row of Thai, Lao, Burmese and Khmer, which have no spaces between
words either. Every other mark is a symbol by itself, but a run of full stops, hyphens,
tildes or carets is one. This counts English much as the usual tokenizers do, by which
limits of filters were chosen; "words with symbols" are both.
"""

import functools
import re
import unicodedata
from collections import Counter

from lm.data.clean import script_of
from lm.data.overlap import ALONE

CLUSTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
# The first words of the Unicode names of letters, of scripts without spaces.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER")
_MARKS = "".join(
  char
  for char in map(chr, range(0x300, 0x10000))
  if unicodedata.category(char)[0] == "M"
)  # accents and vowel signs, which \w leaves out
_HAS_MARKS = re.compile(f"[{_MARKS}]")


def _pattern(letters: str) -> re.Pattern:
  """Returns the regular expression of words and symbols, of that of a run of letters.

  Words without a mark before them come first: most are such.
  """
  inside = r"[.@]|[-,:/](?=\d)"
  word = rf"{letters}(?:://\S*[\w/]|(?:(?:{inside}){letters})*(?:[.,:;!?]?--+)?)"
  before = r"(?<=\w)['\u2019]|(?<![\w)])[-/@.]"
  runs = r"-+|\.+|~+|\^+"
  return re.compile(
    rf"{word}|(?:{before}){word}|{runs}|[{CLUSTERS}]{{1,5}}|[{ALONE}]|[^\w\s]"
  )


_LETTER = f"[^\\W{ALONE}{CLUSTERS}]"
_WORD = _pattern(f"{_LETTER}+")
_WORD_WITH_MARKS = _pattern(f"{_LETTER}+(?:[{_MARKS}]+{_LETTER}*)*")


class Parts:
  """A text in words and lines."""

  def __init__(self, text: str):
    self.text = text

  @functools.cached_property
  def words(self) -> list[str]:
    """All words with symbols, in order."""
    has_marks = not self.text.isascii() and _HAS_MARKS.search(self.text)
    return (_WORD_WITH_MARKS if has_marks else _WORD).findall(self.text)

  @functools.cached_property
  def counts(self) -> Counter:
    """The occurrences of each word and symbol, in order of the first ones."""
    return Counter(self.words)

  @functools.cached_property
  def lines(self) -> list[str]:
    """The lines that are not blank."""
    return [line for line in self.text.split("\n") if line and not line.isspace()]

  @functools.cached_property
  def scripts(self) -> Counter:
    """The letters of each script, by the first word of their Unicode names."""
    if self.text.isascii():
      return Counter(LATIN=1)
    letters = Counter()
    for word, num in self.counts.items():
      first = next(filter(str.isalpha, word), "")
      if first:
        letters[script_of(first)] += num * len(word)
    return letters

  def mostly(self, *scripts: str) -> bool:
    """Returns True if more than half of the letters are of these scripts."""
    return sum(map(self.scripts.__getitem__, scripts)) > self.scripts.total() / 2
