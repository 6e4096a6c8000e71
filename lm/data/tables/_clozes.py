"""Questions made of sentences: an answer is taken out, and a question word put in.

Unsupervised question answering by cloze translation (Lewis, Denoyer and Riedel 2019,
arXiv:1906.04980), with rules in place of a model: the kind of the answer chooses the
question word. It takes the place of an answer that begins the sentence ("Who was ...");
otherwise it stands in front, before an auxiliary verb that follows a short subject
("In what year was the house built?"). A sentence that has neither makes no question.
"""

import re
from typing import NamedTuple

MONTHS = "January|February|March|April|May|June|July|August|September|October|November"
MONTHS = f"(?:{MONTHS}|December)"
_WORD = r"[A-ZÀ-ÖØ-Þ](?:[\w'’-]+|\.)"
NAME = rf"{_WORD}(?: (?:(?:of|the|and|de|von|van|der) )*{_WORD}| [IVX]+\b)*"
# Kind of an answer -> (its pattern, the question's first words); the first that fits.
KINDS = {
  "date": (rf"(?:\d{{1,2}} {MONTHS}|{MONTHS} \d{{1,2}},?) \d{{3,4}}", "on what date"),
  "year": (r"\b1[0-9]{3}\b|\b20[0-2][0-9]\b", "in what year"),
  "share": (r"\b\d+(?:\.\d+)?(?:%| per ?cent)", "what percentage"),
  "count": (r"\b\d[\d,]*(?:\.\d+)?(?: (?:m|b|tr)illion)?\b(?= [a-z])", "how many"),
  "name": (NAME, ""),
}
AUXILIARY = r"is|are|was|were|has|have|had|can|could|may|might|will|would|must"
# The end of what stands before an answer: without it there is no question of the kind,
# and the question word takes the place of all but the group.
ABOUT = r"(?: about| around| over| nearly| some)? $"
BEFORE = {
  "date": re.compile(r"() on $"),
  "year": re.compile(r"() in $"),
  "share": re.compile(rf"(\b(?:is|up|of)){ABOUT}"),
  "count": re.compile(rf"(\b(?:has|have|had|includes|contains)){ABOUT}"),
}
PLACE = re.compile(r" (?:in|at|near) $")
PERSON = re.compile(r"\b(?:by|son of|daughter of) $")
PRONOUN = re.compile(r"(?:He|She|It|They|His|Her|Its|Their)\b")
OPENER = re.compile(r"(?:The|A|An|This|These|Its|Their|His|Her)\b")
# Words with a capital that are no name, and no subject.
OTHERS = "In It He She They There Some Many Most As At On For From While Since During"
OTHERS += (
  " After Although Both One Other However By With When Until All Of To Under Such"
)
OTHERS = frozenset(f"{OTHERS} Each Before If Because Along Following According".split())
# What may follow a name that is one by itself, and describes nothing.
AFTER = "and or in on at of to from by with as for who which that where when is are was"
AFTER = re.compile(rf"\s*(?:$|[.,;:?!]|(?:{AFTER.replace(' ', '|')}|were|has|had)\b)")
IN_BRACKETS = re.compile(r"\s*\([^()]*\)")
SENTENCE = re.compile(r"(?<=[a-z0-9)\]\"]{2}[.?!])\s+(?=[A-Z])")
WORDS = (6, 32)  # of a sentence that questions are made of


class Cloze(NamedTuple):
  """A question, its answer, and the place of the answer in the text."""

  question: str
  answer: str
  start: int


def clozes(text: str, title: str, *, is_person: bool):
  """Yields the Clozes of a text about `title`, in the order of its sentences.

  A pronoun that begins a sentence stands for the title; `is_person` says who it is.
  """
  begin = 0
  for sentence in SENTENCE.split(text):
    begin = text.index(sentence, begin)
    if WORDS[0] <= len(sentence.split()) <= WORDS[1]:
      for kind, start, end in _answers(sentence):
        question = _question(sentence, kind, (start, end), title, is_person)
        if question:
          yield Cloze(question, sentence[start:end], begin + start)
    begin += len(sentence)


def _answers(sentence: str):
  """Yields (kind, start, end) of what a question may ask for; none is in another."""
  taken = []
  for kind, (pattern, _) in KINDS.items():
    for match in re.finditer(pattern, sentence):
      start, end = match.span()
      if kind == "name":
        opener = OPENER.match(sentence) if start == 0 else None
        start += len(opener[0]) + 1 if opener else 0
        if end - start < 3 or not AFTER.match(sentence, end):
          continue
        if sentence[start:end].split()[0] in OTHERS:
          continue
      if all(end <= a or start >= b for a, b in taken):
        taken.append((start, end))
        yield kind, start, end


def _question(sentence: str, kind: str, span, title: str, is_person: bool) -> str:
  """Returns the question for an answer, "" where no good one can be made."""
  start, end = span
  answer, left = sentence[start:end], IN_BRACKETS.sub("", sentence[:start])
  right = IN_BRACKETS.sub("", sentence[end:]).rstrip(" .!?")
  if answer in left + right or "(" in left or ")" in right:
    return ""
  is_title = answer in title or title in answer
  if not left or OPENER.fullmatch(left.strip()):
    if kind != "name" or not re.match(rf"\s*,?.*\b(?:{AUXILIARY})\b", right):
      return ""
    word = "who" if is_title and is_person else "what"
    return _ended(f"{word}{right}") if re.match(rf" (?:{AUXILIARY})\b", right) else ""
  if is_title:
    return ""
  left = PRONOUN.sub(_referent(title), left, count=1) if PRONOUN.match(left) else left
  word, left, right = _with_word(kind, left, right)
  clause = _inverted(" ".join([left.rstrip(" ,"), right.strip(" ,")]), title)
  return _ended(f"{word} {clause}") if word and clause else ""


def _with_word(kind: str, left: str, right: str) -> tuple[str, str, str]:
  """Returns the question word, "" for none, and the two sides of the answer."""
  if kind == "name":
    if PLACE.search(left):
      return "where", PLACE.sub("", left), right
    return "who" if PERSON.search(left) else "what", left, right
  if not BEFORE[kind].search(left):
    return "", left, right
  left, word = BEFORE[kind].sub(r"\1", left), KINDS[kind][1]
  if kind == "count":  # what is counted goes with the question word
    noun, _, right = right.strip().partition(" ")
    word = f"{word} {noun}"
  return word, left, right


def _referent(title: str):
  """Returns a function of re.sub: a title, with 's for a possessive pronoun."""

  def name(match) -> str:
    possessive = match[0] in ("His", "Her", "Its", "Their")
    return f"{title}'s" if possessive else title

  return name


def _inverted(clause: str, title: str) -> str:
  """Returns a clause with the auxiliary of its short subject in front, "" without."""
  match = re.match(rf"((?:[^\s,;:]+ ){{1,6}}?)({AUXILIARY})\b(.*)", clause)
  if not match or match[1].split()[0] in OTHERS:
    return ""
  subject = match[1]
  if OPENER.match(subject) and not subject.startswith(title):
    subject = subject[0].lower() + subject[1:]
  return f"{match[2]} {subject}{match[3].strip()}"


def _ended(question: str) -> str:
  question = " ".join(question.split()).rstrip(" ,;:")
  return f"{question[0].upper()}{question[1:]}?"
