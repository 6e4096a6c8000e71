"""Selects documents: one by one by the rules, and against each other."""

import functools
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np

from lm.data.clean import (
  Rules,
  checked,
  contained,
  dedup,
  han,
  language,
  quality,
  script_of,
)
from lm.data.clean.rewrite import by_rules
from lm.errors import Mistake

REPEATS = "repeats held-out text"
DUPLICATE, NEAR = "duplicate", "near duplicate"
EXAMPLES = 3  # names in a report, of each reason
KEEPS = "--config.data.clean.dedup=off trains on text that repeats itself all the same"


@dataclass
class Report:
  """Counts of what cleaning did, with the names of a few documents for each."""

  documents: int = 0
  kept: int = 0
  chars: int = 0
  kept_chars: int = 0
  changed: dict = field(default_factory=Counter)  # change -> number of documents
  dropped: dict = field(default_factory=Counter)  # reason -> number of documents
  left_out: dict = field(default_factory=Counter)  # reason -> files, no documents
  examples: dict = field(default_factory=dict)  # change or reason -> 3 names at most
  crowded: int = 0  # groups of so many similar documents that not all were compared

  def note(self, counts: Counter, reason: str, name: str):
    """Counts document `name` in `changed`, `dropped` or `left_out`."""
    counts[reason] += 1
    names = self.examples.setdefault(reason, [])
    if len(names) < EXAMPLES:
      names.append(name)

  def wants(self, reason: str) -> bool:
    """Returns True while the report shows fewer names for a reason than it may."""
    return len(self.examples.get(reason, ())) < EXAMPLES

  def add(self, document: "Judged"):
    """Counts a document with its changes, and with its reason if it has one."""
    self.documents += 1
    self.chars += document.chars
    for change in document.changes:
      self.note(self.changed, change, document.name)
    if document.reason:
      self.note(self.dropped, document.reason, document.name)

  def merge(self, later: dict):
    """Adds the report, as `as_dict` gives it, of documents that come after these."""
    for name in ("documents", "kept", "chars", "kept_chars", "crowded"):
      setattr(self, name, getattr(self, name) + later[name])
    for name in ("changed", "dropped", "left_out"):
      getattr(self, name).update(later[name])
    for reason, names in later["examples"].items():
      own = self.examples.setdefault(reason, [])
      own += names[: EXAMPLES - len(own)]

  def lines(self) -> list:
    """The report as lines of text."""
    lines = [
      f"kept {self.kept} of {self.documents} documents,"
      f" {self.kept_chars:,} of {self.chars:,} characters"
    ]
    for verb in ("changed", "dropped", "left_out"):
      for reason, count in getattr(self, verb).items():
        names = ", ".join(self.examples[reason])
        more = ", ..." * (count > EXAMPLES)
        lines.append(f"{verb.replace('_', ' ')} {count}: {reason} ({names}{more})")
    if self.crowded:
      lines.append(f"{self.crowded} crowded groups: later documents were compared with")
      lines[-1] += " the first of each, and with all that are held out"
    return lines

  def as_dict(self) -> dict:
    """The report as plain data, for a manifest."""
    counts = ("changed", "dropped", "left_out")
    return asdict(self) | {name: dict(getattr(self, name)) for name in counts}


class Judged(NamedTuple):
  """A document by itself: its new text, and the reason to drop it, or ""."""

  name: str
  text: str
  chars: int  # of the text before
  changes: tuple[str, ...]
  reason: str
  signature: np.ndarray | None  # see dedup.minhash


def clean(records, *, against=(), apply=map, **rules):
  """(records that are kept, in order; Report); `rules` are the fields of Rules.

  `against` are cleaned records that must not be repeated here, exactly or nearly,
  with any `dedup`: so training text never holds the held-out text. `apply` is map, or
  an ordered map over processes. All kept text is in memory at once (2 bytes a character
  where a document has one beyond Latin-1), and 1 KB a document, with dedup="minhash"
  10 KB; lm.data.corpus.stages does the same from disk.
  """
  rules = checked(rules)
  outside(rules)  # raises for what is missing, before any work
  report, kept = Report(), []
  held, seen = dedup.Seen(rules.near), dedup.Seen(rules.near)
  for record, signature in apply(_signed, against):
    held.add(record["id"], record["text"], signature)
  signs = bool(held.names) or rules.dedup == "minhash"
  for document in apply(functools.partial(judge, rules, signs), records):
    report.add(document)
    if document.reason:
      continue
    name, text, signature = document.name, document.text, document.signature
    reason, original = _repeats(text, signature, rules.dedup, held, seen)
    if reason:
      report.note(report.dropped, reason, f"{name} = {original}")
      continue
    if rules.dedup in ("exact", "minhash"):
      seen.add(name, text, signature if rules.dedup == "minhash" else None)
    report.kept += 1
    report.kept_chars += len(text)
    kept.append({"id": name, "text": text})
  return kept, report


def heldout_rules(rules: Rules) -> Rules:
  """Returns the rules of held-out text, by which only empty texts are dropped.

  The text that a model is measured on is rewritten like the other, and does not depend
  on filters.
  """
  lines = "c4-lines" if {"c4", "c4-lines"} & {*rules.filters} else ""
  of_texts = dict(decontaminate="", language="", quality=lines)
  return replace(rules, min_chars=1, max_chars=0, script="", dedup="none", **of_texts)


def outside(rules: Rules) -> dict[str, str]:
  """Returns what else the outcome of rules depends on, by name, as a text.

  Raises Mistake for a package that is not installed, and for files of test items that
  cannot be read.
  """
  parts = {}
  if rules.han:
    parts["opencc"] = han.version()
  if rules.language:
    parts["py3langid"] = language.version(rules.language)
  if rules.decontaminate:
    parts["decontaminate"] = contained.digest(rules.decontaminate)
  return parts


def check_not_empty(reports: dict):
  """Raises Mistake for {split: Report} of which one has kept nothing."""
  for split, report in reports.items():
    if not report.kept:
      summary = "; ".join(report.lines())
      hint = f"; {KEEPS}" if REPEATS in report.dropped else ""
      raise Mistake(f"cleaning left nothing of the {split} text: {summary}{hint}")


def judge(rules: Rules, signs: bool, record: dict) -> Judged:
  """Rewrites and judges one document by itself, on any process."""
  text, changes = by_rules(record["text"], rules)
  reason = _unwanted(text, rules)
  signature = dedup.minhash(text) if signs and not reason else None
  return Judged(record["id"], text, len(record["text"]), changes, reason, signature)


def script_share(text: str, script: str) -> float:
  """The share of letters whose Unicode names begin with `script`; 0 without letters."""
  letters = {char: num for char, num in Counter(text).items() if char.isalpha()}
  total = sum(letters.values())
  same = sum(num for char, num in letters.items() if script_of(char) == script)
  return same / total if total else 0.0


def _signed(record: dict):
  """A record and its signature."""
  return record, dedup.minhash(record["text"])


def _unwanted(text: str, rules: Rules) -> str:
  """The reason to drop a text, "" for none."""
  if not text.strip():
    of_c4 = [name for name in rules.filters if name == "c4"]  # it may have emptied it
    return quality.reason(text, of_c4) or "empty"
  if len(text) < rules.min_chars:
    return f"shorter than {rules.min_chars} characters"
  if rules.max_chars and len(text) > rules.max_chars:
    return f"longer than {rules.max_chars} characters"
  if rules.script and script_share(text, rules.script) < rules.script_share:
    return f"not in {rules.script} script"
  if rules.language and not language.is_in(text, rules.language, rules.language_score):
    return f"not in language {rules.language}"
  if rules.decontaminate and (name := contained.index(rules).find(text)):
    return f"contains {name}"
  return quality.reason(text, rules.filters)


def _repeats(text: str, signature, rule: str, held, seen):
  """(reason, name of the text that is repeated), or ("", "") if none is."""
  if held.names and (name := held.find_exact(text) or held.find_near(text, signature)):
    return REPEATS, name
  if rule in ("exact", "minhash") and (name := seen.find_exact(text)):
    return DUPLICATE, name
  if rule == "minhash" and (name := seen.find_near(text, signature)):
    return NEAR, name
  return "", ""
