"""Documents by name: "shakespeare", "text:PATH", "jsonl:PATH", "tfds:NAME", ...

A source is a module of this folder; "name" or "name:argument" is the value of
`data.source` in a config. It has
  documents(argument, *, cache) -> {"train": sequence, "heldout": sequence} of records
    and perhaps {"left_out": {reason: names of files}}, which the report counts
  content(argument, *, cache) -> str, a hash of the bytes that it reads
  VERSION   an int; raise it when the records of the same bytes change
  ARGUMENT  what the argument is, in words; only in a source that wants one
Adding the file is registering it. Packages (_builders.py) and the usual TFDS names need
no prefix.
"""

import hashlib
import importlib

from lm import lookup
from lm.data.sources import _records, packages
from lm.disk import paths
from lm.errors import Mistake

# Usual names, and the TFDS names (dataset/config) that they stand for.
STANDARD = {
  "c4/en": "c4/en",
  "lm1b": "lm1b",
  "tiny_shakespeare": "tiny_shakespeare",
  "wikipedia": "wikipedia/20230601.en",
}


def documents(source: str, *, cache) -> dict:
  """Returns {"train", "heldout"}: random-access sequences of {"id": str, "text": str}.

  Whole works or documents are held out, by a rule that depends on nothing but the
  source. Texts are as they are in the source: lm.data.clean changes them, visibly.
  Raises Mistake for an unknown name and for a source that is missing, empty or broken.
  """
  module, argument = resolve(source)
  return module.documents(argument, cache=cache)


def fingerprint(source: str, *, cache) -> str:
  """Returns a sha256 of what `documents` reads: the bytes, the VERSION of the code."""
  module, argument = resolve(source)
  content = module.content(argument, cache=cache)
  facts = f"{module.VERSION} {_records.VERSION} {content}"
  return hashlib.sha256(facts.encode()).hexdigest()


def resolve(source: str) -> tuple:
  """Returns (module, argument) of a source's name; Mistake lists the names."""
  name, _, argument = source.partition(":")
  if source in packages.PACKAGES:
    name, argument = "package", source
  elif source in STANDARD:
    name, argument = "tfds", STANDARD[source]
  modules = _modules(name)
  paths.local(argument if modules else source)
  if not modules or bool(argument) != hasattr(modules[name], "ARGUMENT"):
    raise Mistake(f"no data source {source!r}; found: {', '.join(_descriptions())}")
  return modules[name], argument


def listed(text: str) -> tuple[str, ...]:
  """Returns the sources in "shakespeare,jsonl:PATH".

  A comma ends one only if the name of a source follows: paths may have commas.
  """
  sources = []
  for part in text.split(","):
    if not sources or _begins_source(part.strip()):
      sources.append(part.strip())
    else:
      sources[-1] += f",{part}"
  return tuple(sources)


def _begins_source(text: str) -> bool:
  """True for "shakespeare" and "text:...", False for "text" and any other text."""
  name, colon, _ = text.partition(":")
  if text in packages.PACKAGES or text in STANDARD:
    return True
  module = _modules(name).get(name)
  return module is not None and bool(colon) == hasattr(module, "ARGUMENT")


def _modules(*names: str) -> dict:
  """Returns {name: module} of those names that are sources."""
  existing = [name for name in names if name in lookup.names(__name__)]
  modules = {name: importlib.import_module(f"{__name__}.{name}") for name in existing}
  return {name: m for name, m in modules.items() if hasattr(m, "documents")}


def _descriptions() -> list[str]:
  """Returns all names of sources, with descriptions of their arguments."""
  names = [*packages.PACKAGES, *STANDARD]
  for name, module in _modules(*lookup.names(__name__)).items():
    argument = getattr(module, "ARGUMENT", "")
    names.append(f"{name}:... ({argument})" if argument else name)
  return names
