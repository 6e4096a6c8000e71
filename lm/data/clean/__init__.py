"""Cleaning as a visible step: records and rules in, records and a report out.

`rewrite` alone changes characters within a text; whole documents are dropped by
`documents`, for the reasons that its report counts. Cleaning is idempotent.
quality.py has filters for text of the web, contained.py and language.py two more.
"""

import functools
import unicodedata
from dataclasses import asdict, dataclass, fields

from lm.data.clean.words import STOPWORDS
from lm.errors import Mistake, one_of

VERSION = 1  # of clean/*.py; raise it when the same text comes out otherwise
FORMS = ("", "NFC", "NFD", "NFKC", "NFKD")
DEDUP = ("none", "exact", "minhash", "off")
QUALITY = ("gopher", "repetition", "c4-lines", "c4", "fineweb")  # see quality.py
HAN = ("", "simplified", "traditional")


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
  quality: str = ""  # filters for text of the web: "gopher,repetition,c4,fineweb"
  pii: bool = False  # mask e-mail addresses and public IPv4 addresses
  han: str = ""  # "simplified" or "traditional" Chinese; full width: unicode="NFKC"
  # Files of test items, "a.jsonl,csv:b.csv": texts with 13 words in a row of one go.
  decontaminate: str = ""
  language: str = ""  # "en", "zh", ...: drops texts in others, as py3langid says
  language_score: float = 0.65  # the least probability of that language

  def __post_init__(self):
    for name, choices in (
      ("unicode", FORMS),
      ("stopwords", ("", *STOPWORDS)),
      ("dedup", DEDUP),
      ("han", HAN),
    ):
      if getattr(self, name) not in choices:
        raise Mistake(
          f"cleaning rule {name}={getattr(self, name)!r}; wanted one of {choices}"
        )
    for name in self.filters:
      one_of("quality filter", name, QUALITY)
    for name in ("near", "script_share", "language_score"):
      if not 0 < getattr(self, name) <= 1:
        raise Mistake(
          f"cleaning rule {name}={getattr(self, name)}; wanted more than 0, at most 1"
        )
    if self.script and not _exists(self.script):
      raise Mistake(
        f"no letter's Unicode name begins with {self.script!r}; wanted a script such as"
        " LATIN, GREEK, CYRILLIC, ARABIC, HEBREW, DEVANAGARI, HANGUL, HIRAGANA, CJK"
      )

  @property
  def filters(self) -> tuple[str, ...]:
    """The names in `quality`."""
    return tuple(filter(None, map(str.strip, self.quality.split(","))))


def checked(options: dict) -> Rules:
  """The Rules of these options; Mistake for a name or a value that does not exist."""
  names = [rule.name for rule in fields(Rules)]
  for name in options:
    if name not in names:
      raise Mistake(f"no cleaning rule {name!r}; found: {', '.join(names)}")
  return Rules(**options)


def settings(rules: Rules) -> dict:
  """Returns what prepared data are named by: fields after `near` where they are set."""
  values = asdict(rules)
  later = list(values)[list(values).index("near") + 1 :]
  idle = [name for name in later if values[name] == getattr(Rules, name)]
  return {name: value for name, value in values.items() if name not in idle}


@functools.lru_cache(maxsize=2**16)
def script_of(char: str) -> str:
  """The first word of a character's Unicode name, \"\" without one."""
  return unicodedata.name(char, "").partition(" ")[0]


def _exists(script: str) -> bool:
  planes = (chr(code) for code in range(0x20000))
  return any(char.isalpha() and script_of(char) == script for char in planes)
