"""Finds prepared corpora by what they were made of; build.py makes the others.

The folder's name holds a hash of the source's content, the tokenizer, the cleaning and
the VERSION of each stage, so that data made of anything else are never opened. Plans of
rows are files in it, see Corpus.file.
"""

import hashlib
import json
import re
from pathlib import Path

from lm.data import clean as cleaning
from lm.data import sources, tokenizers
from lm.data.clean import documents
from lm.data.corpus import engines, shards
from lm.data.corpus.reader import Corpus
from lm.disk import locks


def corpus(
  source: str, tokenizer: str, *, clean: dict, cache, engine=engines.HERE, log=print
) -> Corpus:
  """Opens the corpus of `source` (see lm.data.sources), built now if it does not exist.

  `tokenizer` is "bytes", "bpe-N" or "words-N" (learnt from the cleaned train split), or
  the path of a tokenizer; `clean` holds fields of lm.data.clean.Rules; `cache` is a
  folder, and `engine` runs the tasks. Raises Mistake for a wrong name and a broken
  source.
  """
  tokenizers.check(tokenizer)
  identity = tokenizers.identity(tokenizer)  # before a source that takes a download
  made_of = facts(source, clean, cache=cache) | {"tokenizer": identity}
  folder = Path(cache) / "prepared" / folder_name(source, made_of)
  if not (folder / "manifest.json").is_file():
    with locks.locked(folder.with_name(folder.name + ".lock"), log=log):
      if not (folder / "manifest.json").is_file():
        from lm.data.corpus import build

        options = dict(cache=cache, engine=engine, log=log)
        build.build(folder, made_of, tokenizer, **options)
  return Corpus(folder)


def facts(source: str, clean: dict, *, cache) -> dict:
  """Returns what the cleaned text of a source is made of."""
  rules = cleaning.checked(clean)
  outside = documents.outside(rules)
  parts = {
    "source": source,
    "content": sources.fingerprint(source, cache=cache),
    "clean": cleaning.settings(rules),
    "versions": versions(),
  }
  return parts | {"outside": outside} if outside else parts


def versions() -> dict[str, int]:
  """The VERSION of every stage between a source and its shards."""
  stages = {"clean": cleaning, "tokenizers": tokenizers, "shards": shards}
  return {name: module.VERSION for name, module in stages.items()}


def folder_name(source: str, made_of: dict) -> str:
  """A readable name for people, followed by a hash of all of `made_of`."""
  facts = json.dumps(made_of, sort_keys=True).encode()
  readable = re.sub(r"[^A-Za-z0-9]+", "_", source).strip("_")[-40:]
  return f"{readable}-{hashlib.sha256(facts).hexdigest()[:16]}"
