"""Builds corpora: sources, cleaned and tokenized, chunk by chunk.

Text is cleaned in a folder of its own (CACHE/cleaned), for any tokenizer. A corpus is
built beside its final place and renamed when it is whole; a build that was killed
continues where it was.
"""

import contextlib
import dataclasses
import functools
import io
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from lm.data import clean as cleaning
from lm.data import sources, tokenizers
from lm.data.clean import documents
from lm.data.corpus import engines, prepared, shards, stages
from lm.data.corpus.stages import SPLITS
from lm.data.sources import _chunks
from lm.disk import atomic, locks
from lm.errors import Mistake


def build(folder, made_of, tokenizer_name, *, cache, engine, log):
  """Builds `folder`, whole or not at all; `engine` is an engines.Engine.

  A build that is killed leaves FOLDER.partial, and what it cleaned; the next one goes
  on with both.
  """
  start = time.monotonic()
  log(f"preparing {made_of['source']} with tokenizer {tokenizer_name}: {folder}")
  work = folder.with_name(folder.name + ".partial")
  if work.is_symlink():  # what it leads to is not ours
    work.unlink()
  text = cleaned(made_of, cache=cache, engine=engine, log=log)
  with text as (job, reports, workers):
    try:
      _fill(work, job, reports, made_of, tokenizer_name, workers, log=log)
    except ValueError as error:  # what is refused will not be continued: nothing stays
      if not isinstance(error, engines.Unfinished):
        shutil.rmtree(work, ignore_errors=True)
      raise
    atomic.rename_folder(work, folder)
    shutil.rmtree(job.folder)
  log(f"prepared in {time.monotonic() - start:.1f} s, report in {folder}/report.txt")


@contextlib.contextmanager
def cleaned(made_of: dict, *, cache, engine, log):
  """(stages.Job, {split: Report}, workers) of a source's cleaned text, within a block.

  `made_of` is that of lm.data.corpus.prepared, of any tokenizer. What was cleaned stays
  for the next block, unless something is refused with a ValueError.
  """
  source = made_of["source"]
  facts = {key: value for key, value in made_of.items() if key != "tokenizer"}
  folder = Path(cache) / "cleaned" / prepared.folder_name(source, facts)
  with (
    locks.locked(folder.with_name(folder.name + ".lock"), log=log),
    engine.open(Path(cache) / "jobs" / folder.name, log) as workers,
  ):
    try:
      rules = made_of["clean"]
      job, reports = clean(folder, source, rules, workers, cache=cache, log=log)
      yield job, reports, workers
    except ValueError as error:
      if not isinstance(error, engines.Unfinished):
        shutil.rmtree(folder, ignore_errors=True)
      raise


def clean(folder, source: str, rules: dict, workers, *, cache, log):
  """Returns (stages.Job, {split: Report}) of a source that is cleaned in `folder`.

  `rules` holds fields of lm.data.clean.Rules, `workers` is that of an engine. Raises
  Mistake for a broken source, and when nothing of a split is left.
  """
  chunks, left_out = sources.chunks(source, cache=cache)
  cuts = [len(chunks), _chunks.CHUNK_BYTES, stages.KEYS_BYTES]
  _begin(folder, dict(zip(("chunks", "chunk_bytes", "keys_bytes"), cuts, strict=True)))
  job = stages.Job(folder, cleaning.checked(rules), len(chunks))
  run = functools.partial(_run, chunks=chunks, workers=workers, log=log)
  notes = run(job, "clean", list(enumerate(chunks)))
  if not all(_documents(notes, split) for split in SPLITS):
    # In a small corpus all may fall on one side: then the lowest number is held out.
    lowest = min(note["least"] for note in notes if note["least"] is not None)
    if lowest == max(note["most"] for note in notes if note["most"] is not None):
      raise Mistake(
        f"{source} has only one document; wanted at least two, one of them to hold out"
      )
    job = dataclasses.replace(job, lowest=lowest)
    run(job, "clean", list(enumerate(chunks)))
  job = job.with_parts()
  run(job, "pairs", list(range(job.num_parts)))
  run(job, "verify", list(range(len(chunks))) if job.signs else [])
  reports = job.decide()
  for reason, names in left_out.items():
    for name in names:
      reports["train"].note(reports["train"].left_out, reason, name)
  return job, reports


def _begin(folder, facts: dict):
  """Empties a folder of stages that were cut otherwise."""
  note = folder / "job.json"
  if not note.is_file() or json.loads(note.read_bytes()) != facts:
    atomic.remove(folder)
    note.parent.mkdir(parents=True)
    atomic.write(note, json.dumps(facts))


def _documents(notes, split: str) -> int:
  return sum(note["reports"][split]["documents"] for note in notes)


def _run(job, stage: str, tasks, *, chunks, workers, log) -> list[dict]:
  """Does all tasks of a stage; returns their notes."""
  size = sum(chunk.num_bytes for chunk in chunks)
  work, done = functools.partial(job.run, stage), functools.partial(job.is_done, stage)
  with Progress(stage, len(tasks), size, log) as shown:
    notes, done_before = [], [done(task) for task in tasks]
    results = workers.map(work, tasks, size=size, done=done)
    for note, is_reused in zip(results, done_before, strict=True):
      shown.add(is_reused)
      notes.append(note)
  return notes


def _fill(work, job, reports, made_of, tokenizer_name, workers, *, log):
  """Writes tokenizer, shards, offsets, reports, and at last the manifest, to `work`."""
  for split in SPLITS:
    (work / split).mkdir(parents=True, exist_ok=True)
  for half_written in work.rglob("*.tmp"):  # of a killed build; we hold the lock
    half_written.unlink()
  for split in SPLITS:
    log(f"{split}: {'; '.join(reports[split].lines())}")
  if 2 * reports["train"].dropped[documents.REPEATS] > reports["train"].documents:
    log(f"warning: most of the training text repeats held-out text; {documents.KEEPS}")
  tokenizer = _tokenizer(work / "tokenizer", tokenizer_name, job.kept("train"))
  entries = _write_shards(work, job, reports, workers, log)
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


def _write_shards(work, job, reports, workers, log) -> dict:
  """Writes a shard of each chunk that has text; returns {split: their entries}."""
  tasks = []
  for split in SPLITS:
    numbers = [n for n in range(job.num_chunks) if len(job.kept_rows(split, n))]
    tasks += [(split, index, number) for index, number in enumerate(numbers)]
  size = sum(report.kept_chars for report in reports.values())
  write = functools.partial(_write_shard, job, work)
  done = lambda task: shards.file(work / task[0], task[1]).is_file()
  entries = {split: [] for split in SPLITS}
  with Progress("tokens", len(tasks), size, log) as shown:
    done_before = [done(task) for task in tasks]
    written = workers.map(write, tasks, size=size, done=done)
    for (split, *_), entry, is_reused in zip(tasks, written, done_before, strict=True):
      shown.add(is_reused)
      entries[split].append(entry)
  return entries


def _write_shard(job, work, task) -> dict:
  split, index, number = task
  texts = stages.Kept(job, split, number)
  return shards.write(_loaded(str(work / "tokenizer")), work / split, index, texts)


@functools.lru_cache(1)
def _loaded(folder: str):
  return tokenizers.load(folder)


class Progress:
  """A bar of a stage's tasks, in MB of text; without a terminal a line every 5 s."""

  EVERY_S = 5

  def __init__(self, stage: str, num_tasks: int, num_bytes: float, log):
    """`num_bytes` is the size of the text of all tasks."""
    self._stage, self._total, self._log = stage, num_tasks, log
    self._size = num_bytes / max(1, num_tasks)
    self._done = self._reused = 0

  def __enter__(self):
    from tqdm import tqdm

    # `disable` leaves a bar that counts and shows nothing.
    self._bar = tqdm(
      total=self._total * self._size,
      unit="B",
      unit_scale=True,
      disable=not sys.stderr.isatty() or not self._total,
      desc=self._stage,
    )
    self._start = self._last_line = time.monotonic()
    return self

  def add(self, reused: bool):
    """Counts a task; one that was `reused` took no time and is not in the rate."""
    self._done += 1
    self._reused += reused
    self._bar.update(self._size)
    now = time.monotonic()
    if self._bar.disable and now - self._last_line > self.EVERY_S:
      self._last_line = now
      megabytes = (self._done - self._reused) * self._size / 1e6
      rate = f"{megabytes / (now - self._start):.1f} MB/s"
      self._log(f"{self._stage}: {self._done} of {self._total} tasks, {rate}")

  def __exit__(self, *_):
    self._bar.close()
    if self._reused:
      self._log(f"reused {self._reused} tasks of an earlier build: {self._stage}")
