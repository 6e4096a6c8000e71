"""Rows of pairs: a text to read, and the one to be written.

An encoder-decoder has them apart, as rows of lm.data.rows.corrupt._seq2seq do: the
source, and the targets behind a start token. A decoder has one behind the other. The
loss counts what is to be written, its end included, and nothing else.
"""

import numpy as np

from lm.data.packed import Packed
from lm.data.rows import pad_id
from lm.data.rows.corrupt import start_id
from lm.errors import Mistake

TARGETS = {"tokens_T": "int32", "targets_T": "int32", "weights_T": "float32"}


def layout(sizes: dict, *, packs: bool = True) -> dict:
  """Returns the arguments of `lm.data.packed.shapes`, for sizes {"T"} or {"S", "T"}.

  Without `packs` a row has one pair, and no segments along T.
  """
  source = {"source_S": "int32"} if "S" in sizes else {}
  return dict(sizes=sizes, dtypes=source | TARGETS, alone=not packs)


def rows(prompts, targets, tokenizer, *, num_cut: int = 0, **layout) -> Packed:
  """Returns the rows of prompts and of targets, which are ids; the rest as `layout`.

  `prompts` are as `source` or `before` returns them, `joined`, and `targets` as `ended`
  does.
  """
  apart = "source_S" in layout["dtypes"]
  make = _apart if apart else _joined
  start = start_id(tokenizer) if apart else None
  examples = [make(p, t, start) for p, t in zip(prompts, targets, strict=True)]
  return Packed(examples, **layout, pad=pad_id(tokenizer), num_cut=num_cut)


def _apart(source, target, start) -> dict:
  tokens = np.append(np.int32(start), target[:-1])
  weights = np.ones(len(target), np.float32)
  arrays = {"tokens_T": tokens, "targets_T": target, "weights_T": weights}
  return {"source_S": source} | arrays


def _joined(prompt, target, start) -> dict:
  ids = np.concatenate([prompt, target])
  weights = np.zeros(len(ids) - 1, np.float32)
  weights[len(prompt) - 1 :] = 1
  return {"tokens_T": ids[:-1], "targets_T": ids[1:], "weights_T": weights}


def source(tokenizer, text: str) -> tuple:
  """Returns (the ids of a text that an encoder reads, the eos behind them)."""
  ids, end = tokenizer.prompt(text), _eos(tokenizer)
  return (ids[:-1] if len(ids) and ids[-1] == end[0] else ids), end


def before(tokenizer, head: str, tail: str) -> tuple:
  """Returns (the ids of a text that a decoder reads, those of what ends it, `tail`).

  The two are encoded apart, as what is written behind them is. Raises Mistake for a
  tail without ids: nothing would say where the text ends.
  """
  (ids, _), end = source(tokenizer, head), tokenizer.encode(tail)
  if not len(end):
    raise Mistake(
      f"the tokenizer has no token for {tail!r}, which ends what a decoder reads; "
      "wanted other words behind {text} in task.prompt"
    )
  return ids, end


def joined(ids, end, size: int) -> np.ndarray:
  """Returns ids and what is behind them; of too many, the first ones."""
  return np.concatenate([ids[: max(0, size - len(end))], end])


def ended(tokenizer, text: str) -> np.ndarray:
  """Returns the ids of a text to be written, and its eos."""
  return np.concatenate([tokenizer.encode(text), _eos(tokenizer)])


def _eos(tokenizer) -> np.ndarray:
  if tokenizer.eos is None:
    raise Mistake("the tokenizer has no eos, by which a text that is written ends")
  return np.array([tokenizer.eos], np.int32)
