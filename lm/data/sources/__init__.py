"""Documents by name: "shakespeare", "text:PATH", "jsonl:PATH", "parquet:PATH", ...

A source is a module of this folder; "name" or "name:argument" is the value of
`data.source` in a config. It has
  documents(argument, *, cache) -> {"train": sequence, "heldout": sequence} of records
    and perhaps {"left_out": {reason: names of files}}, which the report counts; or
  chunks(argument, *, cache) -> list of chunks (_chunks.py), of files of any size
  content(argument, *, cache) -> str, a hash of the bytes that it reads
  VERSION   an int; raise it when the records of the same bytes change
  ARGUMENT  what the argument is, in words; only in a source that wants one
Adding the file is registering it. Packages (_builders.py) and the usual TFDS names need
no prefix.
"""

import hashlib
import importlib

from lm import lookup
from lm.data.sources import _chunks, _records, packages
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
  """Returns {"train", "heldout"}: sequences of {"id": str, "text": str}.

  Whole works or documents are held out, by a rule that depends on nothing but the
  source. Texts are as they are in the source: lm.data.clean changes them, visibly. A
  source of chunks is read into memory; preparing reads it chunk by chunk.
  Raises Mistake for an unknown name and for a source that is missing, empty or broken.
  """
  module, argument = resolve(source)
  if hasattr(module, "documents"):
    return module.documents(argument, cache=cache)
  chunks = module.chunks(argument, cache=cache)
  read = [pair for chunk in chunks for pair in chunk.read()]
  held = _records.held_by_hash([number for _, number in read], source)
  return _records.split([record for record, _ in read], held, _records.same)


def chunks(source: str, *, cache) -> tuple[list, dict[str, list[str]]]:
  """Returns (the chunks of a source in order, {reason: names of files left out}).

  Together they have the documents of `documents`. Raises Mistake as it does, but for a
  broken document, which raises when it is read.
  """
  module, argument = resolve(source)
  if hasattr(module, "chunks"):
    return module.chunks(argument, cache=cache), {}
  splits = module.documents(argument, cache=cache)
  return _chunks.of_splits(splits, source), splits.get("left_out", {})


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
  is_source = lambda module: hasattr(module, "documents") or hasattr(module, "chunks")
  return {name: module for name, module in modules.items() if is_source(module)}


def _descriptions() -> list[str]:
  """Returns all names of sources, with descriptions of their arguments."""
  names = [*packages.PACKAGES, *STANDARD]
  for name, module in _modules(*lookup.names(__name__)).items():
    argument = getattr(module, "ARGUMENT", "")
    names.append(f"{name}:... ({argument})" if argument else name)
  return names
