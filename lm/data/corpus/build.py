"""Builds corpora: sources, cleaned and tokenized, shard by shard.

A corpus is built beside its final place and renamed when it is whole; a build that was
killed continues where it was.
"""

import functools
import io
import itertools
import json
import shutil
import sys
import time

import numpy as np

from lm.data import sources, tokenizers
from lm.data.clean import documents as cleaning
from lm.data.corpus import parallel, shards
from lm.disk import atomic
from lm.errors import Mistake

SPLITS = ("train", "heldout")
SHARD_CHARS = 16 << 20  # text of one shard: seconds of work to lose, not hours
CHUNK_CHARS = 4 << 20  # text that a process cleans at a time


def cleaned(source: str, clean: dict, workers, *, cache):
  """({split: cleaned records}, {split: clean.documents.Report}) of a source.

  `clean` holds fields of lm.data.clean.Rules, `workers` is a parallel.Workers.
  """
  documents = sources.documents(source, cache=cache)

  def apply(function, records):
    chunks = parallel.grouped(records, _chars, CHUNK_CHARS)
    work = functools.partial(_each, function)
    parts = workers.map(work, chunks, size_of=lambda chunk: sum(map(_chars, chunk)))
    return itertools.chain.from_iterable(parts)

  return cleaning.clean_splits(documents, apply=apply, **clean)


def _each(function, items) -> list:
  return [function(item) for item in items]


def _chars(record: dict) -> int:
  return len(record["text"])


class Texts:
  """The sequence of the texts of records."""

  def __init__(self, records):
    self._records = records

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> str:
    return self._records[index]["text"]


def build(folder, made_of, tokenizer_name, *, cache, log):
  """Builds `folder`, whole or not at all.

  A build that is killed leaves FOLDER.partial, whose finished shards the next one uses.
  """
  start = time.monotonic()
  log(f"preparing {made_of['source']} with tokenizer {tokenizer_name}: {folder}")
  work = folder.with_name(folder.name + ".partial")
  if work.is_symlink():  # what it leads to is not ours
    work.unlink()
  try:
    _fill(work, made_of, tokenizer_name, cache=cache, log=log)
  except ValueError:  # a refused source will not be continued, so nothing is kept
    shutil.rmtree(work, ignore_errors=True)
    raise
  atomic.rename_folder(work, folder)
  log(f"prepared in {time.monotonic() - start:.1f} s, report in {folder}/report.txt")


def _fill(work, made_of, tokenizer_name, *, cache, log):
  """Writes tokenizer, shards, offsets, reports, and at last the manifest, to `work`."""
  for split in SPLITS:
    (work / split).mkdir(parents=True, exist_ok=True)
  for half_written in work.rglob("*.tmp"):  # of a killed build; we hold the lock
    half_written.unlink()
  with parallel.Workers() as workers:
    records, reports = cleaned(
      made_of["source"], made_of["clean"], workers, cache=cache
    )
    for split in SPLITS:
      log(f"{split}: {'; '.join(reports[split].lines())}")
    if 2 * reports["train"].dropped[cleaning.REPEATS] > reports["train"].documents:
      log(f"warning: most of the training text repeats held-out text; {cleaning.KEEPS}")
    tokenizer = _tokenizer(work / "tokenizer", tokenizer_name, Texts(records["train"]))
    entries = _write_shards(work, records, workers, log)
  splits = {split: _split_entry(work / split, entries[split]) for split in SPLITS}
  paths = sorted([*work.glob("*/offsets.npy"), *work.glob("tokenizer/*")])
  digests = {str(path.relative_to(work)): atomic.sha256_of_file(path) for path in paths}
  manifest = {"made_of": made_of, "splits": splits, "sha256": digests}
  _write_report(work, manifest, reports, tokenizer)
  _write_json(work / "manifest.json", manifest)


def _split_entry(folder, entries) -> dict:
  """Writes the offsets of a split; returns its sums and shards for the manifest."""
  lengths = [np.load(folder / f"{i:05d}.lengths.npy") for i in range(len(entries))]
  offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
  data = io.BytesIO()
  np.save(data, offsets)
  atomic.write(folder / "offsets.npy", data.getbuffer())
  sums = {k: sum(e[k] for e in entries) for k in ("documents", "tokens", "bytes")}
  return sums | {"shards": entries}


def _write_report(folder, manifest, reports, tokenizer):
  """Writes report.json for programs, and report.txt for people."""
  report, lines = {}, [f"{k}: {v}" for k, v in manifest["made_of"].items()]
  lines.append(f"tokenizer size: {tokenizer.size}")
  for split, entry in manifest["splits"].items():
    sums = {k: v for k, v in entry.items() if k != "shards"}
    report[split] = sums | {"cleaning": reports[split].as_dict()}
    rate = entry["bytes"] / max(1, entry["tokens"])
    numbers = ", ".join(f"{value:,} {key}" for key, value in sums.items())
    lines.append(f"\n{split}: {numbers}, {rate:.2f} bytes per token")
    lines += reports[split].lines()
  _write_json(folder / "report.json", report | {"tokenizer_size": tokenizer.size})
  text = "\n".join([*lines, ""])
  atomic.write(folder / "report.txt", text.encode("utf-8", "backslashreplace"))


def _write_json(path, value):
  # A path need not be UTF-8: what replaces its other bytes is JSON's own escape.
  text = json.dumps(value, indent=1, ensure_ascii=False)
  atomic.write(path, text.encode("utf-8", "backslashreplace"))


def _tokenizer(folder, name: str, texts):
  """The tokenizer of a name, made in `folder` unless a killed build has made it.

  Raises Mistake for one without an end-of-text token.
  """
  if not (folder / "tokenizer.json").is_file():
    tokenizers.make(name, texts).save(folder)
  tokenizer = tokenizers.load(folder)
  if tokenizer.eos is None:
    raise Mistake(
      f"tokenizer {name!r} has no end-of-text token, which must follow every document; "
      'name one in tokenizer_config.json beside it: {"eos_token": "..."}'
    )
  return tokenizer


def _write_shards(work, records, workers, log) -> dict:
  """Writes all shards; returns {split: entries of its shards}."""
  split_of_shard, entries = [], {split: [] for split in SPLITS}

  def jobs():
    for split in SPLITS:
      texts = (record["text"] for record in records[split])
      groups = parallel.grouped(texts, len, SHARD_CHARS)
      for index, group in enumerate(groups):
        split_of_shard.append(split)
        yield work / split, index, group

  total = sum(len(records[split]) for split in SPLITS)
  with Progress(total, log) as progress:
    written = shards.write_all(work / "tokenizer", jobs(), workers)
    # `written` is called first, and makes the job that appends the split.
    for entry, split in zip(written, split_of_shard, strict=False):
      reused = entry.pop("reused")
      entries[split].append(entry)
      progress.add(entry, reused)
  return entries


class Progress:
  """A bar of documents with the rate in MB/s; without a terminal a line every 5 s."""

  EVERY_S = 5

  def __init__(self, total: int, log):
    self._log, self._total = log, total
    self._done = self._bytes = self._reused = 0

  def __enter__(self):
    from tqdm import tqdm

    # `disable` leaves a bar that counts and shows nothing.
    shown = sys.stderr.isatty()
    self._bar = tqdm(total=self._total, unit="doc", disable=not shown, desc="tokenize")
    self._start = self._last_line = time.monotonic()
    return self

  def add(self, entry: dict, reused: bool):
    """Counts a shard; one that was `reused` took no time and is not in the rate."""
    self._done += entry["documents"]
    self._bytes += 0 if reused else entry["bytes"]
    self._reused += reused
    now = time.monotonic()
    rate = f"{self._bytes / 1e6 / max(1e-9, now - self._start):.1f} MB/s"
    self._bar.set_postfix_str(rate, refresh=False)
    self._bar.update(entry["documents"])
    if self._bar.disable and now - self._last_line > self.EVERY_S:
      self._last_line = now
      self._log(f"tokenized {self._done} of {self._total} documents, {rate}")

  def __exit__(self, *_):
    self._bar.close()
    if self._reused:
      self._log(f"reused {self._reused} shards of an earlier build")
