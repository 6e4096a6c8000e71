"""Prepared data, opened: tokens, documents and rows, mapped from disk."""

import contextlib
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from lm.data import tokenizers
from lm.data.corpus import shards
from lm.data.rows import cooccurrence
from lm.data.rows import pack as packing
from lm.data.tokenizers import word_level
from lm.disk import atomic
from lm.errors import Mistake


class Prepared:
  """Token shards, offsets, plans and tokenizer of one source, opened.

  `folder`, `manifest` (see `_build`), `tokenizer`, `report` (what cleaning dropped),
  `pack` and `seq` as asked for; `digest` is a hash of the tokens and the tokenizer.
  Raises Mistake for a file that is not as it was written, see `check`.
  """

  def __init__(self, folder, *, pack: str, seq: int):
    self.folder, self.pack, self.seq = Path(folder), pack, seq
    self.manifest = json.loads((self.folder / "manifest.json").read_bytes())
    check(self.folder, _hashes(self.manifest))
    self.tokenizer = tokenizers.load(self.folder / "tokenizer")
    self._dtype = shards.token_dtype(self.tokenizer.size)
    self._tokens = {
      split: shards.Tokens(self.folder / split, told["shards"], self._dtype)
      for split, told in self.manifest["splits"].items()
    }

  @property
  def digest(self) -> str:
    held = [self.tokenizer.digest, self.manifest["splits"]]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()

  @property
  def report(self) -> dict:
    return json.loads((self.folder / "report.json").read_bytes())

  def tokens(self, split: str) -> shards.Tokens:
    """The ids of a split as one array, eos after every document."""
    if split not in self._tokens:
      raise Mistake(f"no split {split!r}; found: {', '.join(self._tokens)}")
    return self._tokens[split]

  def offsets(self, split: str) -> np.ndarray:
    """Where each document starts in `tokens(split)`, and the end of the last."""
    self.tokens(split)
    return np.load(self.folder / split / "offsets.npy", mmap_mode="r")

  def counts(self, split: str) -> np.ndarray:
    """How often each id stands in a split."""
    tokens, counts = self.tokens(split), np.zeros(self.tokenizer.size, np.int64)
    for start in range(0, len(tokens), 1 << 20):
      part = np.bincount(tokens[start : start + (1 << 20)], minlength=counts.size)
      counts += part
    return counts

  def rows(self, split: str, seq: int | None = None):
    """The rows of a split by index, each a dict of arrays of length `seq`.

    Raises Mistake when the split does not fill a row of the stream, or is empty.
    """
    seq, tokens, tok = seq or self.seq, self.tokens(split), self.tokenizer
    pad = tok.eos if tok.pad is None else tok.pad
    if window := cooccurrence.window_of(self.pack):
      return cooccurrence.Rows(self._cells(window)[split], seq, pad)
    # Held-out text may be short: its last row is padded as any last row is.
    whole = self.pack in ("concat", "stream")
    wanted = seq + 1 if whole and split == "train" else 2
    if len(tokens) < wanted:
      raise Mistake(
        f"split {split!r} of {self.folder.name} has {len(tokens)} tokens; wanted at "
        f"least {wanted} for rows of {seq}: give more text or a smaller seq"
      )
    if whole:
      return packing.ConcatRows(tokens, seq, pad)
    bos = tok.eos if tok.bos is None else tok.bos
    plan = self._plan(split, seq)
    return packing.PackedRows(tokens, plan, seq, bos=bos, eos=tok.eos, pad=pad)

  def _cells(self, window: int) -> dict:
    """{split: cells} of the training text; those held out are cells, not documents."""
    tok, code = self.tokenizer, _digest_of_file(cooccurrence.__file__)
    name = f"cooccurrence-{window}-{code}.cells"
    found = cooccurrence.cells(
      self.folder / name,
      self.tokens("train"),
      size=tok.size,
      skip=word_level.no_words(tok),
      end=tok.eos,
      window=window,
    )
    check(self.folder, {name: None})
    return cooccurrence.split(found, tok.size)

  def _plan(self, split: str, seq: int) -> packing.Plan:
    code = _digest_of_file(packing.__file__)
    name = f"{split}/first_fit-{seq}-{code}.npy"
    path = self.folder / name
    if not path.is_file():
      plan = packing.plan_first_fit(self.offsets(split), seq)
      data = io.BytesIO()
      parts = (plan.start_P, plan.length_P, plan.row_offsets)
      np.save(data, np.concatenate([[len(plan.start_P)], *parts]).astype(np.int64))
      atomic.write_atomically(path, data.getbuffer())
    check(self.folder, {name: None})
    held = np.load(path, mmap_mode="r")
    num = int(held[0])
    return packing.Plan(
      held[1 : 1 + num], held[1 + num : 1 + 2 * num], held[1 + 2 * num :]
    )


def check(folder: Path, wanted: dict):
  """Raises Mistake for a file whose hash is not the wanted one (None: its first).

  What was read is noted in checked.json, where the folder can be written: a file of the
  same size and time of change is not read again, which would take a large corpus long.
  """
  note, known, found = folder / "checked.json", {}, {}
  with contextlib.suppress(OSError, ValueError):
    known = json.loads(note.read_bytes())
  for name, sha256 in wanted.items():
    path, old = folder / name, known.get(name, [None])
    told = f"{path} is damaged or missing; delete {folder} and prepare again"
    if not path.is_file():
      raise Mistake(told)
    stat = path.stat()
    found[name] = [sha256 or old[0], stat.st_size, stat.st_mtime_ns]
    if found[name] != old:
      held = atomic.sha256_of_file(path)
      if held != (found[name][0] or held):
        raise Mistake(told)
      found[name][0] = held
  if known | found != known:
    with contextlib.suppress(OSError):
      atomic.write_atomically(note, json.dumps(known | found).encode())


def _hashes(manifest: dict) -> dict:
  """{file: sha256} of all that a manifest tells of."""
  return manifest["sha256"] | {
    f"{split}/{name}": sha256
    for split, told in manifest["splits"].items()
    for shard in told["shards"]
    for name, sha256 in shard["sha256"].items()
  }


def _digest_of_file(path) -> str:
  return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
