"""Documents by name: "shakespeare", "text:PATH", "jsonl:PATH", "tfds:NAME", ...

A kind of source is a module of this folder, with two functions:
  documents(argument, *, cache) -> {"train": sequence, "heldout": sequence}
  content(argument, *, cache) -> str, a hash of what it reads
Packages (lm/data/sources/builders.py) and the usual TFDS names need no prefix.
"""

import hashlib
import pathlib

from lm import lookup
from lm.data.sources import packages
from lm.errors import Mistake

# Names everybody uses, and the TFDS dataset, config and date that they stand for.
STANDARD = {
  "c4/en": "c4/en",
  "lm1b": "lm1b",
  "tiny_shakespeare": "tiny_shakespeare",
  "wikipedia": "wikipedia/20230601.en",
}
PREFIXES = {
  "jsonl": "a file with one JSON object a line and the text in its field 'text'",
  "text": "a .txt file, or a folder of them",
  "tfds": "any dataset of TFDS that has a feature 'text'",
}


def documents(source: str, *, cache) -> dict:
  """{"train", "heldout"}: random-access sequences of {"id": str, "text": str}.

  Whole works or documents are held out, by a rule that depends on nothing but the
  source. Texts are as they were found: lm.data.clean changes them, visibly. Raises
  Mistake for a name nobody knows and for a source that is missing, empty or broken.
  """
  module, argument = _resolve(source)
  return module.documents(argument, cache=cache)


def fingerprint(source: str, *, cache) -> str:
  """A sha256 of what `documents` returns: of the content and the code that reads it."""
  module, argument = _resolve(source)
  digest = hashlib.sha256(module.content(argument, cache=cache).encode())
  for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
    digest.update(path.read_bytes())
  return digest.hexdigest()


def _resolve(source: str):
  prefix, _, argument = source.partition(":")
  if source in packages.PACKAGES:
    prefix, argument = "package", source
  elif source in STANDARD:
    prefix, argument = "tfds", STANDARD[source]
  elif source != "python_stdlib" and not (prefix in PREFIXES and argument):
    known = [*packages.PACKAGES, "python_stdlib", *STANDARD]
    known += [f"{prefix}:... ({what})" for prefix, what in PREFIXES.items()]
    raise Mistake(f"no data source {source!r}; found: {', '.join(known)}")
  return lookup.find("lm.data.sources", prefix), argument
