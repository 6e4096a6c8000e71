"""Words as tokens: the commonest of a text, in lower case, and their counts."""

import numpy as np

from lm.data.tokenizers.bpe import END, PAD, UNKNOWN, pieces_of, sample
from lm.errors import Mistake

SPECIAL = (END, PAD, UNKNOWN)
# Letters, and apostrophes between them; digits and other characters are no words.
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
  # Inverted: matches are kept, and the characters between them are removed.
  inner.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
  trainer = trainers.WordLevelTrainer(
    vocab_size=size, min_frequency=1, show_progress=False, special_tokens=list(SPECIAL)
  )
  pieces = (piece for text in sample(texts) for piece in pieces_of(text))
  inner.train_from_iterator(pieces, trainer)
  return inner


def of_words(counts_V, tokenizer) -> np.ndarray:
  """A copy of `counts_V`, the occurrences of each id, with 0 for ids of no word."""
  counts_V = np.array(counts_V)
  counts_V[no_words(tokenizer)] = 0
  return counts_V


def no_words(tokenizer) -> list[int]:
  """The ids of bos, eos, padding and the unknown word."""
  ids = (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.unk)
  return sorted({i for i in ids if i is not None})
