"""Descriptions of Debian's packages: with translations by people, and with summaries.

apt-get fetches them from this machine's own sources (about 20 MB) when the table is
first read; from then on it stays as it was. The texts are by Debian's maintainers and
translators, under the licences of the packages. Packages of one source are one group,
for their descriptions differ in a few words.
"""

import json
import re
from pathlib import Path

from lm.data.tables import _apt, jsonl
from lm.disk import atomic, locks
from lm.errors import Mistake

ARGUMENT = (
  "a pair such as en-fr, of which en-fr/synopsis is the part of short texts; or en"
)
PARTS = ("synopsis", "paragraph")
VERSION = 1  # raise it when other records are made of an index
_LANGUAGE = re.compile("[a-z]{2,3}(_[A-Z]{2})?")


def read(argument: str, *, cache) -> dict:
  """Returns the records of a language or of a pair.

  Of a pair: "source", "target", "part" ("synopsis", a line, or "paragraph"); "en-fr/
  synopsis" has that part alone. Of a language: "text", the long description, and
  "summary", its synopsis. Both also have "package" and "group", the source package.
  Raises Mistake for a language that apt's sources lack, and as
  `lm.data.tables._apt.indexes`.
  """
  name, _, part = argument.partition("/")
  languages = name.split("-")
  is_known = all(map(_LANGUAGE.fullmatch, languages)) and part in ("", *PARTS)
  if not is_known or len(languages) > 2 or (part and len(languages) == 1):
    raise Mistake(f"no table debian:{argument}; wanted {ARGUMENT}")
  file = Path(cache) / "debian" / f"{name}-{VERSION}.jsonl"
  if not file.exists():
    with locks.locked(file.with_suffix(".lock"), log=print):
      if not file.exists():
        lines = (json.dumps(r, ensure_ascii=False) for r in _fetched(languages))
        atomic.write(file, "".join(f"{line}\n" for line in lines))
  records = jsonl.read(str(file), cache=cache)["train"]
  return {"train": [r for r in records if not part or r["part"] == part]}


def _fetched(languages: list[str]) -> list[dict]:
  with _apt.indexes(languages) as folder:
    sources = {}
    for path in sorted(folder.glob("*_Packages")):
      sources |= _source_packages(path)
    descriptions = [_descriptions(folder, language) for language in languages]
  records = []
  for key, (package, *first) in descriptions[0].items():
    facts = {"package": package, "group": sources.get(package, package)}
    if len(languages) == 1:
      records.append(_summarised(*first) | facts)
    elif key in descriptions[1]:
      pairs = _pairs(first, descriptions[1][key][1:])
      records += [pair | facts for pair in pairs]
  return records


def _source_packages(path: Path) -> dict[str, str]:
  """Returns {package: its source package} where they differ, of a file Packages."""
  sources, package = {}, ""
  with path.open(encoding="utf-8") as lines:
    for line in lines:
      name, _, value = line.partition(": ")
      if name == "Package":
        package = value.strip()
      elif name == "Source":
        sources[package] = value.split()[0]
  return sources


def _descriptions(folder: Path, language: str) -> dict[str, tuple]:
  """Returns {md5 of the English one: (package, synopsis, paragraphs)}."""
  paths = sorted(folder.glob(f"*_i18n_Translation-{language}"))
  if not paths:
    raise Mistake(
      f"apt's sources have no descriptions in {language!r}; wanted another language"
    )
  descriptions = {}
  for path in paths:
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
      fields = dict(re.findall(r"^([\w-]+): (.*(?:\n .*)*)", stanza, re.M))
      text = fields.get(f"Description-{language}", "")
      synopsis, _, long = text.partition("\n")
      if synopsis:
        entry = fields["Package"], synopsis.strip(), paragraphs(long)
        descriptions.setdefault(fields["Description-md5"], entry)
  return descriptions


def paragraphs(long: str) -> list[str]:
  """Returns the paragraphs of a long description, each line of which has a margin.

  A line that is just a dot is empty; lines with a wider margin stay lines, others are
  joined (Debian Policy 5.6.13).
  """
  blocks = [[]]
  for line in long.splitlines():
    line = line[1:].rstrip()
    if line == ".":
      blocks.append([])
    elif line.strip() and blocks[-1] and not line.startswith(" "):
      blocks[-1][-1] += f" {line}"
    elif line.strip():
      blocks[-1].append(line.strip())
  return ["\n".join(lines) for lines in blocks if lines]


def _summarised(synopsis: str, texts: list[str]) -> dict:
  return {"text": "\n\n".join(texts), "summary": synopsis}


def _pairs(first, second):
  """Yields the pairs of two descriptions; of paragraphs where there are as many.

  Paragraphs with lines of their own are left out, and so is what is not translated.
  """
  aligned = [(first[0], second[0], "synopsis")]
  if len(first[1]) == len(second[1]):
    pairs = zip(first[1], second[1], strict=True)
    aligned += [(a, b, "paragraph") for a, b in pairs if "\n" not in a + b]
  for source, target, part in aligned:
    if source != target:
      yield {"source": source, "target": target, "part": part}
