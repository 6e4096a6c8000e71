"""Rows of whole documents, packed so that little room is left, apart by segments_T.

Each document is cut into pieces of at most `seq` tokens; first-fit-decreasing puts the
pieces into rows. The plan (which piece, which row) is computed once for a split and a
`seq`, and kept beside the token shards.
"""

import dataclasses

import numpy as np

from lm.data.rows import ArrayShape, Rows, check_length, empty_row, pad_id, text_shapes

ORDER = "shuffled"
HOLDS = "documents"
VERSION = 1  # of the plan; raise it when the same offsets give another one


def shapes(seq: int) -> dict[str, ArrayShape]:
  """The arrays of one row: those of text, and segments_T."""
  return text_shapes(seq) | {"segments_T": ArrayShape((seq,), np.dtype(np.int32))}


def rows(corpus, split: str, seq: int) -> "PackedRows":
  """The rows of a split; raises Mistake if it holds no token but one eos."""
  check_length(corpus, split, seq, least=2)

  def write(path):
    plan = make_plan(corpus.offsets(split), seq)
    parts = [[len(plan.start_P)], plan.start_P, plan.length_P, plan.row_offsets]
    with open(path, "wb") as file:
      np.save(file, np.concatenate(parts).astype(np.int64))

  path = corpus.file(f"{split}/first_fit-{seq}-v{VERSION}.npy", write)
  plan, tok = read_plan(path), corpus.tokenizer
  bos = tok.eos if tok.bos is None else tok.bos
  return PackedRows(
    corpus.tokens(split), plan, seq, bos=bos, eos=tok.eos, pad=pad_id(tok)
  )


def first_fit(lengths_P, seq: int) -> np.ndarray:
  """The row of each piece by first-fit-decreasing, exactly as in the textbook.

  Pieces of equal length keep their order. Rows with equal room are neighbours and are
  handled as one run, so that time grows with the number of different lengths instead
  of rows times pieces.
  """
  lengths_P = np.asarray(lengths_P, np.int64)
  assert lengths_P.size == 0 or 0 < lengths_P.min() <= lengths_P.max() <= seq
  order_P = np.argsort(-lengths_P, kind="stable")
  row_P = np.empty(len(lengths_P), np.int64)
  runs, num_rows = [], 0  # runs: (room, first row, end row) in the order of rows
  values, counts = np.unique(lengths_P, return_counts=True)
  done = 0
  for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
    pieces = order_P[done : done + count]
    done += count
    # Append enough new rows for all pieces; drop those that stay empty.
    spare = -(-count // (seq // length))
    runs, taken = _fill([*runs, (seq, num_rows, num_rows + spare)], length, count)
    row_P[pieces] = taken
    num_rows = max(num_rows, int(taken.max()) + 1)
    runs = [(room, lo, min(hi, num_rows)) for room, lo, hi in runs if lo < num_rows]
  return row_P


def _fill(runs, length: int, count: int):
  """Puts `count` pieces of a length into runs of rows.

  Returns the runs that still have room, and the row of each piece.
  """
  open_runs, rows_of_pieces = [], []
  for room, lo, hi in runs:
    per_row = room // length
    taken = min(count, per_row * (hi - lo))
    if not taken:
      open_runs.append((room, lo, hi))
      continue
    rows_of_pieces.append(lo + np.arange(taken) // per_row)
    count -= taken
    full, part = divmod(taken, per_row)
    for rest, start, end in (
      (room - per_row * length, lo, lo + full),
      (room - part * length, lo + full, lo + full + bool(part)),
      (room, lo + full + bool(part), hi),
    ):
      if rest and start < end:
        open_runs.append((rest, start, end))
  return open_runs, np.concatenate(rows_of_pieces)


@dataclasses.dataclass(frozen=True)
class Plan:
  """Pieces sorted by row: row r holds pieces row_offsets[r] to row_offsets[r + 1]."""

  start_P: np.ndarray  # the offset of a piece's first target in the token stream
  length_P: np.ndarray  # its number of targets
  row_offsets: np.ndarray  # rows + 1 numbers


def make_plan(offsets, seq: int) -> Plan:
  """The plan for documents that span offsets[i] to offsets[i + 1] of the stream."""
  begin, end = np.asarray(offsets[:-1]), np.asarray(offsets[1:])
  num = -(-(end - begin) // seq)
  # The k-th piece of its document, for every piece.
  k_P = np.arange(num.sum()) - np.repeat(np.cumsum(num) - num, num)
  start_P = np.repeat(begin, num) + k_P * seq
  length_P = np.minimum(seq, np.repeat(end, num) - start_P)
  row_P = first_fit(length_P, seq)
  order_P = np.argsort(row_P, kind="stable")
  counts = np.bincount(row_P) if len(row_P) else np.zeros(0, np.int64)
  return Plan(
    start_P[order_P].astype(np.int64),
    length_P[order_P].astype(np.int32),
    np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
  )


def read_plan(path) -> Plan:
  """The plan in a file, mapped into memory."""
  stored = np.load(path, mmap_mode="r")
  num = int(stored[0])
  return Plan(stored[1 : 1 + num], stored[1 + num : 1 + 2 * num], stored[1 + 2 * num :])


class PackedRows(Rows):
  """Rows of whole pieces, numbered by segments_T from 1 on; 0 is padding.

  The input before a document's first token is `bos` (eos where there is none), so
  every token, eos included, is a target exactly once, and never one of another
  document.
  """

  def __init__(self, tokens, plan: Plan, seq: int, *, bos: int, eos: int, pad: int):
    self._tokens, self._plan, self._seq = tokens, plan, seq
    self._bos, self._eos, self._pad = bos, eos, pad

  def __len__(self) -> int:
    return len(self._plan.row_offsets) - 1

  def __getitem__(self, index: int) -> dict:
    row, filled = self.padding(), 0
    first, last = self._plan.row_offsets[index], self._plan.row_offsets[index + 1]
    for segment, piece in enumerate(range(first, last), 1):
      start, size = int(self._plan.start_P[piece]), int(self._plan.length_P[piece])
      ids = self._tokens[max(0, start - 1) : start + size]
      span = slice(filled, filled + size)
      row["targets_T"][span] = ids[-size:]
      row["tokens_T"][span] = ids[:size]
      # eos stands only at the end of a document: after it another one begins.
      if start == 0 or ids[0] == self._eos:
        row["tokens_T"][filled] = self._bos
        row["tokens_T"][filled + 1 : filled + size] = ids[-size:-1]
      row["weights_T"][span] = 1
      row["segments_T"][span] = segment
      filled += size
    return row

  def padding(self) -> dict:
    row = empty_row(self._seq, self._pad)
    return row | {"segments_T": np.zeros(self._seq, np.int32)}
