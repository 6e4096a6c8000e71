"""The changes that cleaning makes within a text; they are idempotent."""

import re
import unicodedata

from lm.data.clean import Rules, han, pii, quality, words

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal
# Control characters but tab and the ends of lines; byte-order marks; non-characters.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85]")

# Project Gutenberg's own marks. The end of the "small print" is where old texts start.
_MARK = re.compile(
  r"^(?:\*\*\* ?(?:(?P<start>START)|END) OF (?:THE|THIS) PROJECT GUTENBERG EBOOK"
  r"|(?P<print>\*END ?\*? ?THE SMALL PRINT)).*$",
  re.MULTILINE | re.IGNORECASE,
)
_CREDIT = re.compile(
  r"^End of (?:the |this )?Project Gutenberg.*(?:\n|\Z)", re.M | re.I
)
# Lines with a page number alone, in unmistakable forms: a bare number may be a verse,
# an item of a list or a cell of a table.
_PAGE = re.compile(
  r"^[ \t]*(?:\[(?:page|pg\.?|p\.)[ \t]*\d+\]|page[ \t]+\d+(?:[ \t]+of[ \t]+\d+)?"
  r"|[-\u2013\u2014][ \t]?\d+[ \t]?[-\u2013\u2014])[ \t]*(?:\n|\Z)",
  re.MULTILINE | re.IGNORECASE,
)


def by_rules(text: str, rules: Rules) -> tuple[str, tuple[str, ...]]:
  """(the new text, names of the rules that changed it)."""
  return rewrite(
    text,
    unicode=rules.unicode,
    control=rules.control,
    boilerplate=rules.boilerplate,
    stopwords=rules.stopwords,
    masks=rules.pii,
    chinese=rules.han,
    filters=rules.filters,
  )


def rewrite(
  text: str,
  *,
  unicode: str,
  control: bool,
  boilerplate: bool,
  stopwords: str,
  masks: bool = False,
  chinese: str = "",
  filters=(),
):
  """(the new text, names of the rules that changed it); see lm.data.clean.Rules."""
  changes = []
  again = stopwords or masks or chinese or filters

  def change(name, new):
    nonlocal text
    if new != text:
      text = new
      if name not in changes:
        changes.append(name)

  while True:
    before = text
    if control:
      change("control characters", _without_controls(text))
    if unicode:
      change(f"Unicode {unicode}", unicodedata.normalize(unicode, text))
    if chinese:
      change(f"{chinese} Chinese", han.converted(text, chinese))
    if boilerplate:
      change("boilerplate", _without_boilerplate(text))
    if masks:
      change("pii", pii.masked(text))
    if filters:
      change("c4 lines", quality.rewritten(text, filters))
    if stopwords:
      change("stop words", words.without(text, stopwords))
    # Without its stop words a line may look like a page number: then go round again.
    if not again or text == before:
      return text, tuple(changes)


def _without_controls(text: str) -> str:
  return _LINE_ENDS.sub("\n", _CONTROLS.sub("", _ESCAPES.sub("", text)))


def _without_boilerplate(text: str) -> str:
  if "gutenberg" in text.casefold():
    text = _CREDIT.sub("", _between_marks(text))
  return _PAGE.sub("", text)


def _between_marks(text: str) -> str:
  """The text between START and END marks; a missing mark is at the edge of the text."""
  parts, start, inside = [], 0, None
  for mark in _MARK.finditer(text):
    starts = bool(mark["start"] or mark["print"])
    if inside or (inside is None and not starts):
      parts.append(text[start : mark.start()])
    start, inside = mark.end(), starts
  if inside is None:
    return text
  if inside:
    parts.append(text[start:])
  return "".join(parts).strip("\n") + "\n"
