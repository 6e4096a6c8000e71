"""Cleaning as a visible step: records and rules in, records and a report out.

`rewrite` alone changes characters within a text; whole documents are dropped by
`documents`, for the reasons that its report counts. Cleaning is idempotent.
"""

import functools
import unicodedata
from dataclasses import dataclass, fields

from lm.data.clean.words import STOPWORDS
from lm.errors import Mistake

VERSION = 1  # of clean/*.py; raise it when the same text comes out otherwise
FORMS = ("", "NFC", "NFD", "NFKC", "NFKD")
DEDUP = ("none", "exact", "minhash", "off")


@dataclass(frozen=True)
class Rules:
  """Rules that change a text or drop it; the values of `data.clean` in a config."""

  unicode: str = "NFC"  # a normal form, or "" to leave characters as they are
  control: bool = True  # drop control characters, end every line in \n
  boilerplate: bool = True  # drop Gutenberg's header, footer and lines of page numbers
  stopwords: str = ""  # "english" or "chinese": drop its commonest words (for bags)
  min_chars: int = 1  # texts with fewer are dropped
  max_chars: int = 0  # texts with more are dropped; 0: no limit
  script: str = ""  # "LATIN", "CJK", ...: the first word of the letters' Unicode names
  script_share: float = 0.5  # the share of letters that must be of that script
  # Drops "exact" duplicates; "minhash": near ones too; "none": only what repeats
  # held-out text; "off": not even that, for a text that repeats itself all the time.
  dedup: str = "exact"
  near: float = 0.8  # the Jaccard similarity of 16-byte shingles of a near duplicate

  def __post_init__(self):
    for name, choices in (
      ("unicode", FORMS),
      ("stopwords", ("", *STOPWORDS)),
      ("dedup", DEDUP),
    ):
      if getattr(self, name) not in choices:
        raise Mistake(
          f"cleaning rule {name}={getattr(self, name)!r}; wanted one of {choices}"
        )
    for name in ("near", "script_share"):
      if not 0 < getattr(self, name) <= 1:
        raise Mistake(
          f"cleaning rule {name}={getattr(self, name)}; wanted more than 0, at most 1"
        )
    if self.script and not _exists(self.script):
      raise Mistake(
        f"no letter's Unicode name begins with {self.script!r}; wanted a script such as"
        " LATIN, GREEK, CYRILLIC, ARABIC, HEBREW, DEVANAGARI, HANGUL, HIRAGANA, CJK"
      )


def checked(options: dict) -> Rules:
  """The Rules of these options; Mistake for a name or a value that does not exist."""
  names = [rule.name for rule in fields(Rules)]
  for name in options:
    if name not in names:
      raise Mistake(f"no cleaning rule {name!r}; found: {', '.join(names)}")
  return Rules(**options)


@functools.lru_cache(maxsize=2**16)
def script_of(char: str) -> str:
  """The first word of a character's Unicode name, \"\" without one."""
  return unicodedata.name(char, "").partition(" ")[0]


def _exists(script: str) -> bool:
  planes = (chr(code) for code in range(0x20000))
  return any(char.isalpha() and script_of(char) == script for char in planes)
