"""Words as tokens."""

import pytest

from lm.data import tokenizers
from lm.data.tokenizers import word_level

TEXT = (
  "The king's crown\u2014don't touch it, King! 12 na\u00efve a_b <|unk|>\n\nthe The it"
)


def test_words_are_letters_in_small_and_come_by_their_counts():
  tokenizer = tokenizers.make("words-7", [TEXT])
  assert tokenizer.decode(range(tokenizer.size)).split()[:2] == ["the", "it"]
  ids = tokenizer.encode("It, the it: zebra, 99 <|endoftext|>")
  the, it, unk = 3, 4, tokenizer.unk
  # Marks and digits are no words; a special token in a text is a word like any other.
  assert ids.tolist() == [it, the, it, unk, unk]
  assert word_level.no_words(tokenizer) == [0, 1, 2]
  with pytest.raises(ValueError, match="words-3 holds 3 special tokens and no word"):
    tokenizers.make("words-3", [TEXT])


def test_it_is_saved_with_what_is_unknown(tmp_path):
  tokenizer = tokenizers.make("words-9", [TEXT])
  tokenizer.save(tmp_path)
  again = tokenizers.load(tmp_path)
  assert (again.unk, again.digest) == (tokenizer.unk, tokenizer.digest)
  assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
  assert again.bytes_V is None
