"""Rows of text with something taken out, and what was taken out as the targets.

Whatever is drawn at random is drawn from a generator that the loader makes of the seed
and the index of the row, or for held-out text of that index alone: the same holes
whenever a row is read. The text of a row are its targets, so that every token of the
corpus is in one row. Suffixes are those of one row: T places, S those of its source.
"""

import inspect

import numpy as np

from lm.data.tokenizers import word_starts
from lm.errors import Mistake

MASK, CLS, SEP = "[MASK]", "[CLS]", "[SEP]"
ROBERTA_MASK = "<mask>"
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))  # T5's names and number
LANES = 8  # lengths are rounded up to a multiple, so that a mesh can divide them


class Masked:
  """Some tokens hidden, to be named: BERT's objective (arXiv:1810.04805, section 3.1).

  A share `rate` of a row is chosen; 80 % of it becomes the mask, 10 % any token, and
  10 % stays. With `whole_words` all tokens of a word are chosen together. Held-out rows
  are read once for each of 1/rate views, with all that is chosen masked: together they
  hide every token once, so that their loss is that of the whole text (in the way of
  pseudo-perplexity, arXiv:1910.14659, which hides one token at a time).
  """

  objectives = ("masked_lm", "replaced_token")
  specials = (MASK,)
  packs = True

  def __init__(self, tokenizer, seq: int, *, rate: float, whole_words: bool):
    self._mask, self._size = mask_id(tokenizer), tokenizer.size
    self._rate, self.views = share("rate", rate), max(2, round(1 / rate))
    self._joins = word_starts.joins(tokenizer) if whole_words else None

  def __call__(self, row: dict, draw, *, rows, view=None) -> dict:
    real_T = row["weights_T"] > 0
    return {"segments_T": real_T.astype(np.int32)} | row | self.hide(row, draw, view)

  def hide(self, row, draw, view, spared_T=()) -> dict:
    """tokens_T, targets_T and weights_T of a row; ids in `spared_T` are not hidden."""
    text_T = row["targets_T"]
    can_T = (row["weights_T"] > 0) & ~np.isin(text_T, spared_T)
    hidden_T = np.zeros(text_T.shape, bool)
    hidden_T[can_T] = self._choose(text_T[can_T], draw, view)
    tokens_T = np.where(hidden_T, self._mask, text_T)
    if view is None:
      fate_T = draw.random(text_T.size)
      other_T = draw.integers(0, self._size, text_T.size)
      tokens_T = np.where(hidden_T & (fate_T >= 0.8), other_T, tokens_T)
      tokens_T = np.where(hidden_T & (fate_T >= 0.9), text_T, tokens_T)
    return {
      "tokens_T": tokens_T.astype(np.int32),
      "targets_T": text_T,
      "weights_T": hidden_T.astype(np.float32),
    }

  def _choose(self, text_T, draw, view):
    """Which of these tokens are hidden: the goal is reached by the last word taken."""
    starts_T = np.ones(text_T.size, bool)
    if self._joins is not None:
      starts_T[1:] = ~self._joins(text_T[:-1], text_T[1:])
    word_T = np.cumsum(starts_T) - 1
    sizes = np.bincount(word_T)
    order = draw.permutation(sizes.size)
    before = np.cumsum(sizes[order]) - sizes[order]
    if view is None:
      taken = before < max(1, round(self._rate * text_T.size))
    else:
      taken = np.arange(sizes.size) % self.views == view
    return np.isin(word_T, order[taken])


class Pairs:
  """[CLS] A [SEP] B [SEP], half the time with a B that does not follow A; masked too.

  BERT's next-sentence objective (arXiv:1810.04805). next_C is 0 where B follows, 1
  where it comes from another row; types_T is 0 in A and 1 in B.
  """

  objectives = ("next_sentence",)
  specials = (MASK, CLS, SEP)
  packs = False

  def __init__(self, tokenizer, seq: int, *, rate: float, whole_words: bool):
    if seq < 8:
      raise Mistake(f"seq={seq} is too short for two sentences; wanted 8 or more")
    self._masked = Masked(tokenizer, seq, rate=rate, whole_words=whole_words)
    self._cls, self._sep = tokenizer.id(CLS), tokenizer.id(SEP)
    self.views = self._masked.views

  def __call__(self, row: dict, draw, *, rows, view=None) -> dict:
    seq, text = row["targets_T"].size, text_of(row)
    size = min(text.size, seq - 3)
    first, second, follows = text[: size // 2], text[size // 2 : size], True
    if text.size and draw.random() < 0.5:
      other = text_of(rows[int(draw.integers(len(rows)))])[-second.size :]
      follows = np.array_equal(other, second)
      second = other
    pair = [self._cls, *first, self._sep, *second, self._sep] if text.size else []
    out = fill({"targets_T": (pair, seq), "weights_T": (np.ones(len(pair)), seq)})
    types_T = (np.arange(seq) >= first.size + 2) & (out["weights_T"] > 0)
    out["segments_T"] = (out["weights_T"] > 0).astype(np.int32)
    out |= self._masked.hide(out, draw, view, [self._cls, self._sep])
    out["types_T"] = types_T.astype(np.int32)
    return out | {"next_C": np.array([not follows], np.int32)}


class Spans:
  """A source with some spans replaced by sentinels; the targets are the spans.

  T5's objective (arXiv:1910.10683, section 3.1.4): a share `rate` of the tokens, in
  spans of `length` tokens on average. Both ends with eos; what the decoder reads is the
  targets, one later. In held-out rows only the text counts, not sentinels and eos.
  """

  objectives = ("seq2seq",)
  specials = SENTINELS
  packs = False
  views = 1

  def __init__(self, tokenizer, seq: int, *, rate: float, length: float):
    self._rate, self._length = share("rate", rate), length
    if not length >= 1:
      raise Mistake(f"length={length:g} tokens a span; wanted 1 or more")
    if seq < 2:
      raise Mistake(f"seq={seq} is too short to take a span out; wanted 2 or more")
    self._ends = tokenizer.eos, start_id(tokenizer)
    hidden, spans = self._plan(seq)
    if spans > len(SENTINELS):
      raise Mistake(
        f"{spans} spans in a row of {seq} tokens, and there are {len(SENTINELS)} "
        "sentinels; make the spans longer, or seq smaller"
      )
    self._sentinels = np.array([tokenizer.id(name) for name in SENTINELS])
    self._sizes = rounded(seq - hidden + spans + 1), rounded(hidden + spans + 1)

  def _plan(self, size: int) -> tuple[int, int]:
    """How many tokens of `size` are hidden, and in how many spans."""
    hidden = min(max(1, round(size * self._rate)), size - 1)
    return hidden, min(max(1, round(hidden / self._length)), size - hidden)

  def __call__(self, row: dict, draw, *, rows, view=None) -> dict:
    text = text_of(row)
    if text.size < 2:
      return pair((), (), (), self._ends, self._sizes)
    hidden, spans = self._plan(text.size)
    kept = np.stack([cut(text.size - hidden, spans, draw), cut(hidden, spans, draw)], 1)
    pieces = np.split(text, np.cumsum(kept.reshape(-1))[:-1])
    source, targets, counts = [], [], []
    for sentinel, seen, gone in zip(
      self._sentinels, pieces[::2], pieces[1::2], strict=False
    ):
      source += [*seen, sentinel]
      targets += [sentinel, *gone]
      counts += [view is None, *(True for _ in gone)]
    return pair(source, targets, [*counts, view is None], self._ends, self._sizes)


class Prefix:
  """The first part of a row as the source, the rest as the targets: a prefix LM.

  T5's (arXiv:1910.10683, section 3.2.3), read by two stacks. The cut is anywhere.
  """

  objectives = ("seq2seq",)
  specials = ()
  packs = False
  views = 1

  def __init__(self, tokenizer, seq: int):
    self._ends = tokenizer.eos, start_id(tokenizer)
    self._sizes = rounded(seq), rounded(seq)

  def __call__(self, row: dict, draw, *, rows, view=None) -> dict:
    text = text_of(row)
    if text.size < 2:
      return pair((), (), (), self._ends, self._sizes)
    at = int(draw.integers(1, text.size))
    counts = np.append(np.ones(text.size - at, bool), view is None)
    return pair(text[:at], text[at:], counts, self._ends, self._sizes)


CORRUPTIONS = {"masked": Masked, "pairs": Pairs, "spans": Spans, "prefix": Prefix}


def check(objective: str, name: str, pack: str):
  """Mistake unless an objective, a corruption ("": none) and a pack go together."""
  if name and name not in CORRUPTIONS:
    raise Mistake(f"no corruption {name!r}; found: {', '.join(CORRUPTIONS)}")
  fit = [key for key, kind in CORRUPTIONS.items() if objective in kind.objectives]
  if fit and name not in fit:
    raise Mistake(
      f"objective={objective!r} and corrupt.name={name!r}; wanted a corrupt.name of "
      f"{' or '.join(fit)}"
    )
  if name and not fit:
    raise Mistake(
      f"objective={objective!r} reads text as it is, and corrupt.name={name!r}; wanted "
      f"no corrupt, or the objective {' or '.join(CORRUPTIONS[name].objectives)}"
    )
  if name and pack != "concat" and not CORRUPTIONS[name].packs:
    raise Mistake(f"corrupt.name={name!r} and data.pack={pack!r}; wanted 'concat'")


def extended(tokenizer, name: str):
  """The tokenizer with the special tokens of a corruption after its own vocabulary."""
  names = CORRUPTIONS[name].specials
  if ROBERTA_MASK in tokenizer.special:
    names = [each for each in names if each != MASK]
  return tokenizer.extended(names)


def mask_id(tokenizer) -> int:
  """The id that hides a token: what the tokenizer has for it, BERT's if nothing."""
  return tokenizer.id(ROBERTA_MASK if ROBERTA_MASK in tokenizer.special else MASK)


def make(name: str, tokenizer, seq: int, **options):
  """The corruption of rows of `seq` tokens; `tokenizer` is an `extended` one."""
  kind = CORRUPTIONS[name]
  wanted = sorted(set(inspect.signature(kind).parameters) - {"tokenizer", "seq"})
  if sorted(options) != wanted:
    raise Mistake(
      f"corrupt.name={name!r} with {', '.join(sorted(options)) or 'no more values'}; "
      f"wanted {', '.join(wanted) or 'no more values'}"
    )
  return kind(tokenizer, seq, **options)


def start_id(tokenizer) -> int:
  """What a decoder reads before its first token: pad (as T5), bos or eos."""
  found = [i for i in (tokenizer.pad, tokenizer.bos, tokenizer.eos) if i is not None]
  if not found:
    raise Mistake("a decoder starts from pad, bos or eos; the tokenizer has none")
  return found[0]


def text_of(row: dict) -> np.ndarray:
  """The tokens of a row, without its padding."""
  return row["targets_T"][row["weights_T"] > 0]


def share(name: str, value: float) -> float:
  if not 0 < value < 1:
    raise Mistake(f"corrupt.{name}={value:g}; wanted more than 0, less than 1")
  return value


def rounded(size: int) -> int:
  return -(-size // LANES) * LANES


def cut(total: int, parts: int, draw) -> np.ndarray:
  """The sizes of `parts` pieces of `total`, none empty, all ways equally likely."""
  at = np.sort(draw.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(np.concatenate([[0], at, [total]]))


def fill(parts: dict) -> dict:
  """Arrays of a row from {name: (values, size)}, with zeros behind; weights float32."""
  row = {}
  for name, (values, size) in parts.items():
    row[name] = np.zeros(size, np.float32 if name == "weights_T" else np.int32)
    row[name][: len(values)] = values
  return row


def pair(source, targets, counts, ends, sizes) -> dict:
  """The row of a source and its targets, both ended by eos; `counts` are the weights.

  `ends` are eos and the token that the decoder starts from, `sizes` S and T. No source
  is a row of padding.
  """
  eos, start = ends
  source, targets = ([*ids, eos] if len(ids) else [] for ids in (source, targets))
  return fill(
    {
      "source_S": (source, sizes[0]),
      "source_segments_S": (np.ones(len(source)), sizes[0]),
      "tokens_T": ([start, *targets[:-1]], sizes[1]),
      "targets_T": (targets, sizes[1]),
      "weights_T": (counts, sizes[1]),
    }
  )
