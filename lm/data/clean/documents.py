"""Selects documents: one by one by the rules, and against each other."""

import functools
from collections import Counter
from dataclasses import asdict, dataclass, field

from lm.data.clean import Rules, checked, dedup, script_of
from lm.data.clean.rewrite import rewrite
from lm.errors import Mistake

REPEATS = "repeats held-out text"
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

  def note(self, counts: Counter, reason: str, name: str):
    """Counts document `name` in `changed`, `dropped` or `left_out`."""
    counts[reason] += 1
    names = self.examples.setdefault(reason, [])
    if len(names) < 3:
      names.append(name)

  def lines(self) -> list:
    """The report as lines of text."""
    lines = [
      f"kept {self.kept} of {self.documents} documents,"
      f" {self.kept_chars:,} of {self.chars:,} characters"
    ]
    for verb in ("changed", "dropped", "left_out"):
      for reason, count in getattr(self, verb).items():
        names = ", ".join(self.examples[reason])
        more = ", ..." * (count > 3)
        lines.append(f"{verb.replace('_', ' ')} {count}: {reason} ({names}{more})")
    return lines

  def as_dict(self) -> dict:
    """The report as plain data, for a manifest."""
    counts = ("changed", "dropped", "left_out")
    return asdict(self) | {name: dict(getattr(self, name)) for name in counts}


def clean(records, *, against=(), apply=map, **rules):
  """(records that are kept, in order; Report); `rules` are the fields of Rules.

  `against` are cleaned records that must not be repeated here, exactly or nearly,
  with any `dedup`: so training text never holds the held-out text. `apply` is map, or
  an ordered map over processes. All kept text is in memory at once (2 bytes a character
  where a document has one beyond Latin-1), and 1 KB a document, with dedup="minhash"
  10 KB.
  """
  rules = checked(rules)
  report, kept = Report(), []
  held, seen = dedup.Seen(rules.near), dedup.Seen(rules.near)
  for record, signature in apply(_signed, against):
    held.add(record["id"], record["text"], signature)
  signs = bool(held.names) or rules.dedup == "minhash"
  work = functools.partial(_clean_one, rules, signs)
  for chars, record, changes, reason, signature in apply(work, records):
    report.documents += 1
    report.chars += chars
    name, text = record["id"], record["text"]
    for change in changes:
      report.note(report.changed, change, name)
    if not reason:
      reason, original = _repeats(text, signature, rules.dedup, held, seen)
      name = f"{name} = {original}" if reason else name
    if reason:
      report.note(report.dropped, reason, name)
      continue
    if rules.dedup in ("exact", "minhash"):
      seen.add(name, text, signature if rules.dedup == "minhash" else None)
    report.kept += 1
    report.kept_chars += len(text)
    kept.append(record)
  return kept, report


def clean_splits(splits: dict, *, apply=map, **rules):
  """({split: cleaned records}, {split: Report}) of the splits "train" and "heldout".

  Held-out texts are rewritten like the others, but only empty ones are dropped: the
  text that a model is measured on does not depend on filters. Training texts that
  repeat one of them are dropped, unless dedup="off". The files that a source left out
  ("left_out", see lm.data.sources) are counted in the report of the training text.
  Raises Mistake when a split is left empty.
  """
  only_rewrites = dict(min_chars=1, max_chars=0, script="", dedup="none")
  rules = asdict(checked(rules))
  heldout, heldout_report = clean(
    splits["heldout"], apply=apply, **(rules | only_rewrites)
  )
  against = () if rules["dedup"] == "off" else heldout
  train, train_report = clean(splits["train"], against=against, apply=apply, **rules)
  for reason, names in splits.get("left_out", {}).items():
    for name in names:
      train_report.note(train_report.left_out, reason, name)
  kept = {"train": train, "heldout": heldout}
  reports = {"train": train_report, "heldout": heldout_report}
  for split, records in kept.items():
    if not records:
      summary = "; ".join(reports[split].lines())
      hint = f"; {KEEPS}" if REPEATS in reports[split].dropped else ""
      raise Mistake(f"cleaning left nothing of the {split} text: {summary}{hint}")
  return kept, reports


def script_share(text: str, script: str) -> float:
  """The share of letters whose Unicode names begin with `script`; 0 without letters."""
  letters = {char: num for char, num in Counter(text).items() if char.isalpha()}
  total = sum(letters.values())
  same = sum(num for char, num in letters.items() if script_of(char) == script)
  return same / total if total else 0.0


def _signed(record: dict):
  """A record and its signature."""
  return record, dedup.minhash(record["text"])


def _clean_one(rules: Rules, signs: bool, record: dict):
  """Rewrites and judges one document by itself, on any process.

  Returns (characters before, new record, changes, reason to drop it or "", signature).
  """
  text, changes = rewrite(
    record["text"],
    unicode=rules.unicode,
    control=rules.control,
    boilerplate=rules.boilerplate,
    stopwords=rules.stopwords,
  )
  reason = _unwanted(text, rules)
  signature = dedup.minhash(text) if signs and not reason else None
  chars = len(record["text"])
  return chars, {"id": record["id"], "text": text}, changes, reason, signature


def _unwanted(text: str, rules: Rules) -> str:
  """The reason to drop a text, "" for none."""
  if not text.strip():
    return "empty"
  if len(text) < rules.min_chars:
    return f"shorter than {rules.min_chars} characters"
  if rules.max_chars and len(text) > rules.max_chars:
    return f"longer than {rules.max_chars} characters"
  if rules.script and script_share(text, rules.script) < rules.script_share:
    return f"not in {rules.script} script"
  return ""


def _repeats(text: str, signature, rule: str, held, seen):
  """(reason, name of the text that is repeated), or ("", "") if none is."""
  if held.names and (name := held.find_exact(text) or held.find_near(text, signature)):
    return REPEATS, name
  if rule in ("exact", "minhash") and (name := seen.find_exact(text)):
    return "duplicate", name
  if rule == "minhash" and (name := seen.find_near(text, signature)):
    return "near duplicate", name
  return "", ""
