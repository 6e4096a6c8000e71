"""Words as tokens: the commonest of a text, in small letters, and their counts."""

import numpy as np

from lm.data.tokenizers.bpe import END, PAD, pieces_of, sample
from lm.errors import Mistake

UNKNOWN = "<|unk|>"
SPECIAL = (END, PAD, UNKNOWN)
# Letters, and apostrophes between them; digits and all other signs are no words.
WORD = r"[\p{L}\p{M}]+(?:['\u2019][\p{L}\p{M}]+)*"


def check_size(size: int):
  """Raises Mistake when `size` leaves no room for a word."""
  if size <= len(SPECIAL):
    raise Mistake(
      f"words-{size} holds {len(SPECIAL)} special tokens and no word; ask for more"
    )


def learn(texts, size: int):
  """A `tokenizers.Tokenizer` of the commonest words of a sequence of texts.

  Its `size` entries are three special tokens, then words in the order of their counts;
  every other word is UNKNOWN. Raises Mistake as `check_size`.
  """
  from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
  from tokenizers import Tokenizer as Inner

  check_size(size)
  inner = Inner(models.WordLevel(unk_token=UNKNOWN))
  inner.normalizer = normalizers.Lowercase()
  # Inverted: what matches is kept, and what lies between is dropped.
  inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
  trainer = trainers.WordLevelTrainer(
    vocab_size=size, min_frequency=1, show_progress=False, special_tokens=list(SPECIAL)
  )
  pieces = (piece for text in sample(texts) for piece in pieces_of(text))
  inner.train_from_iterator(pieces, trainer)
  return inner


def of_words(counts_V, tokenizer) -> np.ndarray:
  """`counts_V`, how often each id occurs, with 0 for those that are no words."""
  counts_V = np.array(counts_V)
  counts_V[no_words(tokenizer)] = 0
  return counts_V


def no_words(tokenizer) -> list[int]:
  """The ids that end a document, pad a row or stand for a word unknown."""
  ids = (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.unk)
  return sorted({i for i in ids if i is not None})
