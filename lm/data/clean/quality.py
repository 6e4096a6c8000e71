"""Filters for text of the web, by name; each drop has the name and a reason of its own.

  gopher      Rae et al. 2021 (arXiv:2112.11446), appendix A: texts of 50 to 100,000
              words, of usual length, with letters and English stop words, no lists
  repetition  the same, for texts that repeat themselves; see _repetition.py
  c4-lines    Raffel et al. 2020 (arXiv:1910.10683), section 2.2: removes lines that end
              without a full stop or the like, have few words, or are about cookies
  c4          the same; and drops texts with few sentences left, with a brace, or with
              "lorem ipsum"
  fineweb     Penedo et al. 2024 (arXiv:2406.17557), section 3.6: texts whose lines end
              sentences, are not short and do not repeat

c4 rewrites before any filter reads the text. The papers leave open what a word is: here
it is what _parts.py says. Where most letters are of scripts without spaces, such as
Chinese, the length of words does not count, and 15 characters make a short line
instead of 30; nor do stop words count for any script but Latin. Chinese full stops end
sentences, and so does the end of a line in Thai and Lao, which have none.
"""

import re

from lm.data.clean._parts import CLUSTERS, UNSPACED, Parts
from lm.data.clean._repetition import repeated, repetition
from lm.data.overlap import ALONE

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
BULLETS, ELLIPSES = ("-", "\u2022"), ("...", "\u2026")
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies")
POLICIES += ("use of cookies", "use cookies")
NESTED = 8  # citations within citations; a line with more is no sentence
_WIDE = "\u3002\uff0e\uff61\uff01\uff1f"  # full stops of Chinese and Japanese
# With those of Devanagari, Urdu, Armenian, Ethiopic, Khmer, Burmese and Mongolian.
_NARROW = ".!?\u203c\u203d\u2047\u2048\u2049\u0964\u0965\u061f\u06d4\u0589"
_NARROW += "\u1362\u1367\u17d4\u17d5\u104a\u104b\u1803\u1809"
_STOPS = _NARROW + _WIDE
_QUOTES = "\"'\u2019\u201d\u300d\u300f"
_NO_STOPS = "\u0e00-\u0eff"  # Thai and Lao
# Where a sentence begins behind another one. A full stop behind a single letter, as in
# "e.g.", and one of several alone do not end one; Chinese has no space behind it.
_NEXT_SENTENCE = re.compile(
  rf"(?<=[^\s{_NARROW}])(?<!\b[^\W\d_])[{_NARROW}]++[{_QUOTES})\]]*+\s+(?=\S)"
  rf"|(?<=[^\s{_WIDE}\u2026])[{_WIDE}\u2026]++[{_QUOTES}\uff09]*+\s*(?=\S)"
  rf"|[{_NO_STOPS}]\s+(?=\S)"
)
_UNSPACED_LETTER = re.compile(f"[{ALONE}{CLUSTERS}]")
_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")


def reason(text: str, names) -> str:
  """Returns the reason to drop a text, of the first filter that does; "" for none.

  With "c4" the text is one that `rewritten` returned.
  """
  parts = Parts(text)
  for name in names:
    if why := FILTERS[name](parts):
      return f"{name}: {why}"
  return ""


def rewritten(text: str, names) -> str:
  """Returns a text without the lines that C4 leaves out; as it is without "c4"."""
  if "c4" not in names and "c4-lines" not in names:
    return text
  return "\n".join(filter(None, map(_c4_line, text.splitlines())))


def _gopher(parts: Parts) -> str:
  words = {w: times for w, times in parts.counts.items() if any(map(str.isalnum, w))}
  num_words, with_symbols = sum(words.values()), len(parts.words)
  if num_words < 50:
    return "under 50 words"
  if num_words > 100_000:
    return "over 100,000 words"
  if not parts.mostly(*UNSPACED, "HANGUL"):
    mean = sum(len(word) * times for word, times in words.items()) / num_words
    if mean < 3:
      return "words of under 3 characters"
    if mean > 10:
      return "words of over 10 characters"
  if parts.text.count("#") > 0.1 * with_symbols:
    return "over 0.1 hashes a word"
  if sum(map(parts.text.count, ELLIPSES)) > 0.1 * with_symbols:
    return "over 0.1 ellipses a word"
  lines = [line.strip() for line in parts.lines]
  if sum(line.startswith(BULLETS) for line in lines) > 0.9 * len(lines):
    return "over 90% of lines are bullets"
  if sum(line.endswith(ELLIPSES) for line in lines) > 0.3 * len(lines):
    return "over 30% of lines end in an ellipsis"
  letters = sum(times for word, times in words.items() if any(map(str.isalpha, word)))
  if letters < 0.8 * with_symbols:
    return "under 80% of words have a letter"
  if parts.mostly("LATIN") and len(STOP_WORDS & words.keys()) < 2:
    return "under 2 stop words"
  return ""


def _c4(parts: Parts) -> str:
  if "lorem ipsum" in parts.text.lower():
    return "lorem ipsum"
  if "{" in parts.text:
    return "a brace"
  if sum(1 + len(_NEXT_SENTENCE.findall(line)) for line in parts.lines) < 5:
    return "under 5 sentences"
  return ""


def _c4_line(line: str) -> str:
  """Returns a line without citations, "" for one that is left out.

  Lines for which `_c4` drops the whole text stay.
  """
  line, depth = line.strip(), 0
  while (shorter := _CITATION.sub("", line).strip()) != line:
    line, depth = shorter, depth + 1
    if depth > NESTED:
      return ""
  words, lower = line.split(), line.lower()
  if max(map(len, words), default=0) > 1000:
    return ""
  if not _ends(line, _STOPS + _QUOTES) or line.endswith(ELLIPSES):
    return ""
  if len(words) < 3 and len(_UNSPACED_LETTER.findall(line)) < 3:
    return ""
  if "lorem ipsum" in lower:
    return line
  if "javascript" in lower:
    return ""
  if "{" not in line and any(policy in lower for policy in POLICIES):
    return ""
  return line


def _ends(line: str, marks: str) -> bool:
  """Returns True if a line ends in one of these marks, or in Thai or Lao."""
  last = line.rstrip()[-1:]
  return bool(last) and (last in marks or "\u0e00" <= last <= "\u0eff")


def _fineweb(parts: Parts) -> str:
  lines, num_breaks = parts.lines, parts.text.count("\n")
  if sum(_ends(line, _STOPS) for line in lines) < 0.12 * len(lines):
    return "under 12% of lines end a sentence"
  short = 15 if parts.mostly(*UNSPACED) else 30
  if sum(len(line) <= short for line in lines) > 0.67 * len(lines):
    return "over 67% of lines are short"
  if repeated(lines)[1] > 0.01 * (len(parts.text) - num_breaks):
    return "over 1% of characters in repeated lines"
  if num_breaks > 0.3 * len(parts.words):
    return "over 0.3 line breaks a word"
  return ""


FILTERS = {
  "gopher": _gopher,
  "repetition": repetition,
  "c4-lines": lambda parts: "",
  "c4": _c4,
  "fineweb": _fineweb,
}
