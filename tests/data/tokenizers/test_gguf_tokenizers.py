"""Tokenizers in GGUF files: what begins and ends a text, and damage.

What llama.cpp does is read in src/llama-vocab.cpp, llama_vocab::impl::load.
"""

import ggufs
import pytest

from lm.data import tokenizers
from lm.data.tokenizers import builders, ends, gguf

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|stop|>", "<|more|>"]
BOS, EOS, STOP, MORE = range(257, 261)
IDS = {"bos_token_id": BOS, "eos_token_id": EOS}
PRES = sorted({*builders.SPLITS, *gguf.SAME_SPLIT})


def loaded(tmp_path, special=SPECIAL, pre="gpt-2", **keys):
  """Returns the tokenizer of a file with these keys, without "tokenizer.ggml."."""
  fields = ggufs.tokenizer(special, pre, **keys)
  return tokenizers.load(ggufs.write(tmp_path / "a.gguf", {}, **fields))


@pytest.mark.parametrize("pre", PRES)
def test_bos_as_the_way_to_split_words_wants_it(pre, tmp_path):
  """Adds bos for Llama 3's `pre` (add_bos = true there), and as add_bos_token says."""
  begins = pre in ("llama-bpe", "llama3", "llama-v3", "falcon3")
  text, ids = "cab 12", [*b"c", 256, *b" 12"]
  assert loaded(tmp_path, pre=pre, **IDS).prompt(text).tolist() == [
    *[BOS] * begins,
    *ids,
  ]
  always = loaded(tmp_path, pre=pre, add_bos_token=True, add_eos_token=True, **IDS)
  assert always.prompt(text).tolist() == [BOS, *ids, EOS]
  never = loaded(tmp_path, pre=pre, add_bos_token=False, **IDS)
  assert never.prompt(text).tolist() == ids


def sentencepieces(**keys) -> dict:
  """Returns the fields of a SentencePiece model with a piece for each byte."""
  texts = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", "a"]
  kinds = [2, 3, 3, *[6] * 256, 1, 1]
  fields = dict(
    model="llama", tokens=texts, scores=[0.0] * len(texts), token_type=kinds
  )
  fields |= dict(bos_token_id=1, eos_token_id=2, unknown_token_id=0) | keys
  return {f"tokenizer.ggml.{key}": value for key, value in fields.items()}


def test_bos_of_sentencepieces(tmp_path):
  """Adds bos for a "llama" (LLAMA_VOCAB_TYPE_SPM) unless add_bos_token is false."""
  plain = tokenizers.load(ggufs.write(tmp_path / "a.gguf", {}, **sentencepieces()))
  assert plain.prompt("a").tolist() == [1, 259, 260] and plain.stops == {2}
  fields = sentencepieces(add_bos_token=False, add_space_prefix=False)
  bare = tokenizers.load(ggufs.write(tmp_path / "b.gguf", {}, **fields))
  assert bare.prompt("a").tolist() == [260]


def test_all_ids_that_end_a_text(tmp_path):
  """Stops at eos, eot, eom and the ends of infilling (special_eog_ids)."""
  assert loaded(tmp_path, **IDS).stops == {EOS}
  for key in ("eot", "eom", "fim_pad", "fim_rep", "fim_sep"):
    assert loaded(tmp_path, **IDS, **{f"{key}_token_id": STOP}).stops == {EOS, STOP}
  both = loaded(tmp_path, **IDS, eot_token_id=STOP, eom_token_id=MORE)
  assert both.stops == {EOS, STOP, MORE}
  both.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again").stops == both.stops


@pytest.mark.parametrize("text", sorted(ends.TURN_ENDS))
def test_ends_of_turns_known_by_their_text(text, tmp_path):
  """Stops there if no key names them, and if a converter took them for plain text."""
  special = ["<s>", "</s>", text]
  for kind in (1, 3, 4):
    tokenizer = loaded(
      tmp_path, special, eos_token_id=258, token_type=[1] * 257 + [3, 3, kind]
    )
    assert tokenizer.stops == {258, 259}
    assert 259 not in tokenizer.encode(text) and tokenizer.decode([259]) == ""


@pytest.mark.parametrize(
  "keys, message",
  [
    (
      {"eos_token_id": 4_000_000},
      "4000000 for tokenizer.ggml.eos_token_id; wanted 0 to",
    ),
    ({"eot_token_id": 261}, "261 for tokenizer.ggml.eot_token_id"),
    ({"bos_token_id": "<s>"}, "'<s>' for tokenizer.ggml.bos_token_id; wanted int"),
    ({"add_bos_token": 1}, "1 for tokenizer.ggml.add_bos_token; wanted bool"),
    ({"merges": ["ab"]}, "'ab' for a merge"),
    ({"merges": ["a b c"]}, "'a b c' for a merge"),
    ({"merges": ["a qq"]}, "merges of other tokens"),
    ({"pre": "tomorrow"}, "splits words as 'tomorrow'"),
    ({"pre": 3}, "3 for tokenizer.ggml.pre"),
    ({"model": "rwkv"}, "tokenizer of kind 'rwkv'"),
    ({"model": "llama"}, "no score for each of its 261 tokens"),
    ({"model": "llama", "scores": [0.0]}, "no score for each"),
    ({"token_type": [1]}, "not a type for each"),
    ({"token_type": [9] * 261}, "9 for the type of a token"),
    ({"tokens": [1, 2]}, "has no tokens"),
  ],
)
def test_damage_is_one_line(keys, message, tmp_path):
  with pytest.raises(ValueError, match=message) as error:
    loaded(tmp_path, **keys)
  assert "\n" not in str(error.value)
