"""Word-level tokenizers: order by count, unknown words, saved files."""

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
  the_id, it_id, unk_id = 3, 4, tokenizer.unk
  # Marks and digits are no words; a special token in a text is a word like any other.
  assert ids.tolist() == [it_id, the_id, it_id, unk_id, unk_id]
  assert word_level.no_words(tokenizer) == [0, 1, 2]
  with pytest.raises(ValueError, match="words-3 holds 3 special tokens and no word"):
    tokenizers.make("words-3", [TEXT])


def test_it_is_saved_with_what_is_unknown(tmp_path):
  tokenizer = tokenizers.make("words-9", [TEXT])
  tokenizer.save(tmp_path)
  restored = tokenizers.load(tmp_path)
  assert (restored.unk, restored.digest) == (tokenizer.unk, tokenizer.digest)
  assert restored.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
  assert restored.bytes_V is None
