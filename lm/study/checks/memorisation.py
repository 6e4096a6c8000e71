"""Memorisation: training text that a model continues word for word.

A window counts where, after PROMPT tokens of it, the likeliest token is the true one
for each of the next CONTINUED (arXiv:2202.07646, with 50 and 50). Held-out windows are
the control: what they have is guessed, not remembered.
"""

import numpy as np

from lm import data, evaluate
from lm.errors import Mistake
from lm.generate import score as scoring
from lm.scores.intervals import wilson
from lm.study.checks import Row
from lm.study.compare import bootstrap

KIND = "text"
PROMPT = CONTINUED = 50  # tokens; less where the context is shorter
SHORTEST = 8  # tokens of a window
CASES = {"train": "training text", "heldout": "held-out text"}
WINDOWS = 256  # of each split, evenly spread


def check(subject, argument: str = "") -> list[Row]:
  """Returns the share of windows continued word for word, by split, and their nats."""
  del argument
  e = subject.experiment
  dataset = data.prepare(e.data, seq=e.seq, log=lambda line: None)
  size = window_size(dataset, subject.model.config.context)
  continued, rows = size // 2, []
  for split, case in CASES.items():
    windows = windows_of(dataset, split, size)
    results = scoring.of_ids(
      subject.model,
      subject.params,
      [scoring.Request(ids[:-continued], ids[-continued:]) for ids in windows],
    )
    hits, count = sum(result.greedy for result in results), len(results)
    nats_R = np.array([-result.logprob / continued for result in results])
    metric = f"{continued} tokens word for word"
    share, interval = hits / count, wilson(hits, count)
    rows += [
      Row("memorisation", case, metric, share, interval, count),
      Row("memorisation", case, "nats", float(nats_R.mean()), bootstrap(nats_R), count),
    ]
  return rows


def window_size(dataset, context: int) -> int:
  """Returns the tokens of a window: those of half of the documents, at most."""
  lengths = np.concatenate([np.diff(c.offsets("train")) for c in dataset.corpora])
  longest = min(PROMPT + CONTINUED, context or PROMPT + CONTINUED)
  return int(min(longest, max(SHORTEST, np.median(lengths) - 1)))


def windows_of(dataset, split: str, size: int) -> list[np.ndarray]:
  """Returns windows of `size` ids within documents of a split, evenly spread.

  Raises Mistake where no document is as long.
  """
  parts = []
  for corpus in dataset.corpora:
    offsets = np.asarray(corpus.offsets(split), np.int64)
    counts = (np.diff(offsets) - 1) // size  # the last id of a document ends it
    starts = np.repeat(offsets[:-1], counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    parts.append((corpus.tokens(split), starts + within * size))
  ends = np.cumsum([len(starts) for _, starts in parts])
  if not ends[-1]:
    raise Mistake(f"no document of split {split!r} has {size + 1} tokens to continue")
  windows = []
  for index in evaluate.spread(int(ends[-1]), WINDOWS):
    part = int(np.searchsorted(ends, index, side="right"))
    tokens, starts = parts[part]
    start = int(starts[index - (ends[part - 1] if part else 0)])
    windows.append(np.asarray(tokens[start : start + size], np.int32))
  return windows
