"""Documents to rows of `seq` positions: plans (which tokens, which row) and their rows.

A split is one stream of ids with eos after every document. "concat" cuts the stream
where a row is full: its plan is arithmetic. "stream" are the same rows, but training
takes them in an order in which a batch goes on where the last one ended. "first_fit"
keeps documents apart: each is cut into pieces of at most `seq`, and pieces share a row
under different segments.
"""

import dataclasses
import zlib

import numpy as np

from lm.errors import Mistake

PACKS = ("concat", "stream", "first_fit")


def first_fit(lengths_P, seq: int) -> np.ndarray:
  """The row of each piece, by first-fit-decreasing: exactly what the textbook's gives.

  Rows with equal room lie side by side, so they are handled as one run: time grows
  with the number of different lengths and not with rows times pieces. Equal lengths
  keep their order.
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
    # New rows enough for all are put behind; those that stay empty are taken back.
    spare = -(-count // (seq // length))
    runs, taken = _fill([*runs, (seq, num_rows, num_rows + spare)], length, count)
    row_P[pieces] = taken
    num_rows = max(num_rows, int(taken.max()) + 1)
    runs = [(room, lo, min(hi, num_rows)) for room, lo, hi in runs if lo < num_rows]
  return row_P


def _fill(runs, length: int, count: int):
  """Puts `count` pieces of a length into runs of rows: the runs left, the rows."""
  left, rows = [], []
  for room, lo, hi in runs:
    each = room // length
    take = min(count, each * (hi - lo))
    if not take:
      left.append((room, lo, hi))
      continue
    rows.append(lo + np.arange(take) // each)
    count -= take
    full, part = divmod(take, each)
    for rest, start, end in (
      (room - each * length, lo, lo + full),
      (room - part * length, lo + full, lo + full + bool(part)),
      (room, lo + full + bool(part), hi),
    ):
      if rest and start < end:
        left.append((rest, start, end))
  return left, np.concatenate(rows)


@dataclasses.dataclass(frozen=True)
class Plan:
  """Pieces sorted by row: row r holds pieces row_offsets[r] to row_offsets[r + 1].

  A piece is a run of targets in the stream: its first one's place and their number.
  """

  start_P: np.ndarray
  length_P: np.ndarray
  row_offsets: np.ndarray


def plan_first_fit(offsets, seq: int) -> Plan:
  """The plan of documents that lie in the stream from offsets[i] to offsets[i + 1]."""
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


class ConcatRows:
  """Row r: inputs [r*seq, r*seq + seq) of the stream, targets one further.

  Every token but the first is a target once. The last row is padded, weight 0.
  """

  def __init__(self, tokens, seq: int, pad: int):
    self._tokens, self._seq, self._pad = tokens, seq, pad

  def __len__(self) -> int:
    return max(0, -(-(len(self._tokens) - 1) // self._seq))

  @property
  def full(self) -> int:
    """The number of rows without padding: all of them, or all but the last."""
    return max(0, (len(self._tokens) - 1) // self._seq)

  def __getitem__(self, row: int) -> dict:
    start = int(row) * self._seq
    ids = self._tokens[start : start + self._seq + 1]
    out = empty_row(self._seq, self._pad)
    size = len(ids) - 1
    out["tokens_T"][:size] = ids[:-1]
    out["targets_T"][:size] = ids[1:]
    out["weights_T"][:size] = 1
    return out

  def pad_row(self) -> dict:
    return empty_row(self._seq, self._pad)


class Stream:
  """ConcatRows for ever, by the index step * batch + place: for a state carried along.

  The row of a place at one step goes on where its row at the step before ended, as the
  rows lie in the stream; after the last comes the first (and the only one that is not
  full is left out). Places start evenly apart, the first where `seed` says. Raises
  Mistake for fewer rows than places.
  """

  def __init__(self, rows: ConcatRows, batch: int, seed: int):
    self._rows, self._batch = rows, batch
    self._shift = zlib.crc32(f"start of the stream, seed {seed}".encode())
    if rows.full < batch:
      raise Mistake(
        f"pack 'stream' needs a row of text for each of batch={batch}, and there are "
        f"{rows.full}; give more text, a smaller seq or a smaller batch"
      )

  def __getitem__(self, index: int) -> dict:
    step, place = divmod(int(index), self._batch)
    apart = self._rows.full // self._batch
    return self._rows[(self._shift + place * apart + step) % self._rows.full]


class PackedRows:
  """Rows of whole pieces, told apart by segments_T from 1 on; 0 is padding.

  The input before a document's first token is `bos` (eos where there is none), so
  every token, eos included, is a target exactly once, and never one of another
  document.
  """

  def __init__(self, tokens, plan: Plan, seq: int, *, bos: int, eos: int, pad: int):
    self._tokens, self._plan, self._seq = tokens, plan, seq
    self._bos, self._eos, self._pad = bos, eos, pad

  def __len__(self) -> int:
    return len(self._plan.row_offsets) - 1

  def __getitem__(self, row: int) -> dict:
    out, at = self.pad_row(), 0
    first, last = self._plan.row_offsets[row], self._plan.row_offsets[row + 1]
    for segment, piece in enumerate(range(first, last), 1):
      start, size = int(self._plan.start_P[piece]), int(self._plan.length_P[piece])
      ids = self._tokens[max(0, start - 1) : start + size]
      here = slice(at, at + size)
      out["targets_T"][here] = ids[-size:]
      out["tokens_T"][here] = ids[:size]
      # eos stands only at the end of a document, so what follows it is a beginning.
      if start == 0 or ids[0] == self._eos:
        out["tokens_T"][at] = self._bos
        out["tokens_T"][at + 1 : at + size] = ids[-size:-1]
      out["weights_T"][here] = 1
      out["segments_T"][here] = segment
      at += size
    return out

  def pad_row(self) -> dict:
    row = empty_row(self._seq, self._pad)
    return row | {"segments_T": np.zeros(self._seq, np.int32)}


def empty_row(seq: int, pad: int) -> dict:
  """A row of padding: weight 0."""
  return {
    "tokens_T": np.full(seq, pad, np.int32),
    "targets_T": np.full(seq, pad, np.int32),
    "weights_T": np.zeros(seq, np.float32),
  }
