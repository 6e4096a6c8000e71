"""Prepared data, opened: tokens, documents and rows, mapped from disk."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from lm.data import cooccurrence, files, shards, tokenizers, vocabulary
from lm.data import pack as packing


class Prepared:
  """Token shards, offsets, plans and tokenizer of one source, opened.

  `folder`, `manifest` (see `_build`), `tokenizer`, `report` (what cleaning dropped),
  `pack` and `seq` as asked for; `digest` is a hash of the tokens and the tokenizer.
  """

  def __init__(self, folder, *, pack: str, seq: int):
    self.folder, self.pack, self.seq = Path(folder), pack, seq
    self.manifest = json.loads((self.folder / "manifest.json").read_bytes())
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
      raise ValueError(f"no split {split!r}; found: {', '.join(self._tokens)}")
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

    Raises ValueError when the split does not fill a row of the stream, or is empty.
    """
    seq, tokens, tok = seq or self.seq, self.tokens(split), self.tokenizer
    pad = tok.eos if tok.pad is None else tok.pad
    if window := cooccurrence.window_of(self.pack):
      return cooccurrence.Rows(self._cells(window)[split], seq, pad)
    # Held-out text may be short: its last row is padded as any last row is.
    whole = self.pack in ("concat", "stream")
    wanted = seq + 1 if whole and split == "train" else 2
    if len(tokens) < wanted:
      raise ValueError(
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
    found = cooccurrence.cells(
      self.folder / f"cooccurrence-{window}-{code}.cells",
      self.tokens("train"),
      size=tok.size,
      skip=vocabulary.no_words(tok),
      end=tok.eos,
      window=window,
    )
    return cooccurrence.split(found, tok.size)

  def _plan(self, split: str, seq: int) -> packing.Plan:
    code = _digest_of_file(packing.__file__)
    path = self.folder / split / f"first_fit-{seq}-{code}.npy"
    if not path.is_file():
      plan = packing.plan_first_fit(self.offsets(split), seq)
      data = io.BytesIO()
      parts = (plan.start_P, plan.length_P, plan.row_offsets)
      np.save(data, np.concatenate([[len(plan.start_P)], *parts]).astype(np.int64))
      files.write_atomically(path, data.getbuffer())
    held = np.load(path, mmap_mode="r")
    num = int(held[0])
    return packing.Plan(
      held[1 : 1 + num], held[1 + num : 1 + 2 * num], held[1 + 2 * num :]
    )


def _digest_of_file(path) -> str:
  return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
