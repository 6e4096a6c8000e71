"""Data sets of the Hugging Face hub: "hf:org/name@revision/path/pattern".

A branch or tag is resolved once in a cache, to a commit that CACHE/hub/*.json notes
with the names and sizes of its files. So a run that goes on has the data that it began
with, and needs no network for what is fetched. For later data, name their commit.
Files come with `huggingface_hub`, whole, when their chunks are wanted.
"""

import fnmatch
import hashlib
import json
import re
from pathlib import Path

from lm.data.sources import _globs, arrayrecord, jsonl, parquet, warc
from lm.disk import atomic, compressed, hub, locks, paths
from lm.errors import Mistake

VERSION = 1
ARGUMENT = (
  "files of a data set of the Hugging Face hub, such as "
  "'org/name@revision/data/*.parquet'"
)
KINDS = {
  ".parquet": parquet,
  ".jsonl": jsonl,
  ".ndjson": jsonl,
  ".json": jsonl,  # c4 calls lines of JSON so
  ".arrayrecord": arrayrecord,
  ".array_record": arrayrecord,
  ".warc": warc,
  ".wet": warc,
}
# Revisions with a slash are those of conversions and pull requests.
_ARGUMENT = re.compile(
  r"([^/@]+/[^/@]+)(?:@(refs/convert/[^/]+|refs/pr/\d+|[^/]+))?/(.+)"
)


def chunks(argument: str, *, cache) -> list:
  """The documents of all files of the pattern, as the source of each format has them.

  Raises Mistake for a file of another format, and as lm.disk.hub for what cannot be
  fetched.
  """
  repo, revision, _ = _parts(argument)
  commit, sizes = _files(argument, cache)
  kinds = {name: _kind(argument, name) for name in sizes}
  parts = []
  for name, (size, _) in sizes.items():
    file = _fetched(f"{repo}@{revision}", commit, name, cache)
    if file.stat().st_size != size:
      raise Mistake(f"{file} has {file.stat().st_size} bytes, not {size}; remove it")
    parts += kinds[name].of_file(file)
  return _globs.not_empty(parts, f"hf:{argument}", "a document or more")


def content(argument: str, *, cache) -> str:
  """A hash of the commit, and of the names, sizes and hashes of the files.

  The bytes themselves are not read, nor fetched.
  """
  facts = json.dumps(_files(argument, cache))
  return hashlib.sha256(facts.encode()).hexdigest()


def _parts(argument: str) -> tuple[str, str, str]:
  """Returns ("org/name", revision, pattern) of an argument."""
  match = _ARGUMENT.fullmatch(argument)
  if not match:
    raise Mistake(
      f"hf:{argument}; wanted hf:organisation/name@revision/path of files, such as "
      "hf:allenai/c4@main/en/*.json.gz"
    )
  repo, revision, pattern = match.groups()
  return repo, revision or "main", pattern


def _files(argument: str, cache) -> tuple[str, dict[str, list]]:
  """Returns (commit, {name: [size, hash]} of the files of a pattern, sorted)."""
  repo, revision, pattern = _parts(argument)
  note = _note(repo, revision, cache)
  wanted = pattern.split("/")
  names = sorted(name for name in note["files"] if _matches(name.split("/"), wanted))
  if not names:
    readable = [name for name in note["files"] if _suffix(name) in KINDS]
    listed = ", ".join(sorted(readable)[:5]) or "none that is read here"
    raise Mistake(f"hf:{repo}@{revision} has no file {pattern}; it has: {listed}")
  return note["sha"], {name: note["files"][name] for name in names}


def _matches(parts: list[str], wanted: list[str]) -> bool:
  """Returns True if a path matches a pattern as in `glob`, where "**" is folders."""
  if not wanted:
    return not parts
  if wanted[0] == "**":
    return any(_matches(parts[i:], wanted[1:]) for i in range(len(parts) + 1))
  is_first = bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0])
  return is_first and _matches(parts[1:], wanted[1:])


def _suffix(name: str) -> str:
  """Returns ".jsonl" for "data/a.jsonl.gz"."""
  for packed in filter(None, compressed.SUFFIXES):
    name = name.removesuffix(packed)
  return Path(name).suffix


def _kind(argument: str, name: str):
  """Returns the source that reads a file; Mistake for another format."""
  if _suffix(name) not in KINDS:
    raise Mistake(
      f"hf:{argument} has {name}, which is none of {', '.join(KINDS)}; narrow the "
      "pattern"
    )
  return KINDS[_suffix(name)]


def _note(repo: str, revision: str, cache) -> dict:
  """Returns {"sha": commit, "files": {name: [size, hash]}} of a revision, kept once."""
  name = f"{repo}@{revision}"
  note = paths.local(cache) / "hub" / f"{name.replace('/', '--')}.json"
  if not note.is_file():
    with locks.locked(note.with_suffix(".lock"), log=print):
      if not note.is_file():
        atomic.write(note, json.dumps(_resolved(repo, revision), indent=1))
  return json.loads(note.read_bytes())


def _resolved(repo: str, revision: str) -> dict:
  import huggingface_hub

  api = huggingface_hub.HfApi()
  with _explained(f"{repo}@{revision}"):
    sha = api.dataset_info(repo, revision=revision).sha
    tree = api.list_repo_tree(repo, repo_type="dataset", revision=sha, recursive=True)
    files = [entry for entry in tree if isinstance(entry, huggingface_hub.RepoFile)]
  hash_of = lambda file: file.lfs.sha256 if file.lfs else file.blob_id
  return {"sha": sha, "files": {f.path: [f.size, hash_of(f)] for f in files}}


def _fetched(name: str, commit: str, file: str, cache) -> Path:
  """Returns the path of a file of a commit, fetched once into the cache."""
  import huggingface_hub

  folder = paths.local(cache) / "hub"
  repo = name.partition("@")[0]
  options = dict(repo_type="dataset", revision=commit, cache_dir=folder)
  with _explained(name):
    path = huggingface_hub.HfApi().hf_hub_download(repo, file, **options)
  return Path(path)


def _explained(name: str):
  otherwise = "give the paths of files (parquet:PATH, jsonl:PATH)"
  return hub.explained(name, "data set", otherwise=otherwise)
