"""Outputs of every stage for a small text, by its VERSION.

Prepared data are addressed by these versions and not by the code: an output must not
change without its version.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib

import formats
import numpy as np
import pytest

from lm.data import clean, sources, tokenizers
from lm.data.clean import documents
from lm.data.corpus import shards
from lm.data.rows import cooccurrence, first_fit
from lm.data.sources import _records, arrayrecord, jsonl, parquet, text, warc
from lm.data.tokenizers import byte_tokenizer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "data.txt"
STAGES = {
  "sources/_records": _records,
  "sources/text": text,
  "sources/jsonl": jsonl,
  "sources/parquet": parquet,
  "sources/arrayrecord": arrayrecord,
  "sources/warc": warc,
  "clean": clean,
  "tokenizers": tokenizers,
  "corpus/shards": shards,
  "rows/first_fit": first_fit,
  "rows/cooccurrence": cooccurrence,
}
PARAGRAPHS = [
  f"Speech {n}: it's a na\u00efve fox\r\n\r\nthat jumps over {n % 7} dogs! [page {n}]\n"
  for n in range(48)
]


def sha256(value) -> str:
  data = value if isinstance(value, bytes) else json.dumps(value).encode()
  return hashlib.sha256(data).hexdigest()[:16]


def listed(splits) -> dict:
  return {split: [dict(record) for record in part] for split, part in splits.items()}


def facts(folder) -> dict:
  """Returns {stage: digest of its output for an input that no other stage made}."""
  (folder / "a.txt").write_text("\n\n".join(PARAGRAPHS), newline="")
  lines = [json.dumps({"text": part}) for part in PARAGRAPHS]
  (folder / "a.jsonl").write_text("\n".join(lines))
  documents_of = functools.partial(sources.documents, cache=folder)
  records = [{"id": str(n), "text": part} for n, part in enumerate(PARAGRAPHS)]
  of_format = {
    f"sources/{kind}": sha256(
      listed(documents_of(formats.write(kind, folder / kind, records)))
    )
    for kind in ("parquet", "arrayrecord", "warc")
  }
  rules = clean.Rules(dedup="minhash", stopwords="english")
  of_heldout = dataclasses.asdict(documents.heldout_rules(rules))
  heldout, _ = documents.clean(records[:4], **of_heldout)
  train, _ = documents.clean(records[4:], against=heldout, **dataclasses.asdict(rules))
  cleaned = {"train": train, "heldout": heldout}
  is_heldout = _records.held_by_hash(
    [_records.hash64(bytes([n])) for n in range(60)], ""
  )
  shards.write(byte_tokenizer(), folder, 0, PARAGRAPHS)
  lengths = [len(part) % 23 + 1 for part in PARAGRAPHS]
  plan = first_fit.make_plan(np.cumsum([0, *lengths]), 8)
  tokens = np.frombuffer("".join(PARAGRAPHS).encode(), np.uint8)
  cells = folder / "cells"
  cooccurrence.count(cells, tokens, 256, skip=[32], end=10, window=3)
  return {
    "sources/_records": [
      sum(_records.held_by_place(99)),
      is_heldout.nonzero()[0].tolist(),
    ],
    "sources/text": sha256(listed(documents_of(f"text:{folder}/a.txt"))),
    "sources/jsonl": sha256(listed(documents_of(f"jsonl:{folder}/a.jsonl"))),
    **of_format,
    "clean": sha256(listed(cleaned)),
    "tokenizers": [
      sha256(tokenizers.make(name, PARAGRAPHS).encode(PARAGRAPHS[0]).tolist())
      for name in ("bytes", "bpe-280", "words-20")
    ],
    "corpus/shards": [
      sha256(path.read_bytes()) for path in sorted(folder.glob("00000.*"))
    ],
    "rows/first_fit": sha256([x.tolist() for x in vars(plan).values()]),
    "rows/cooccurrence": sha256(cells.read_bytes()),
  }


def test_output_changes_with_its_version_alone(tmp_path, golden):
  outputs = facts(tmp_path)
  assert outputs.keys() == STAGES.keys()
  lines = [f"{name} {STAGES[name].VERSION}: {outputs[name]}" for name in STAGES]
  stored_lines = GOLDEN.read_text().splitlines() if GOLDEN.exists() else []
  stored_line_of = {line.partition(":")[0]: line for line in stored_lines}
  for line in lines:
    name = line.partition(":")[0]
    if stored_line_of.get(name, line) != line:
      stage = name.split()[0]
      pytest.fail(
        f"the output of lm/data/{stage} has changed: bump VERSION of {stage}, so that "
        "data prepared before are not used again",
        pytrace=False,
      )
  golden("data", "\n".join(lines))
