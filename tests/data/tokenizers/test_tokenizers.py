"""Tokenizers: exact round trips, text that spells special tokens, foreign files."""

import json

import numpy as np
import pytest
import tokenizers as huggingface
from hypothesis import example, given
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.data.tokenizers import bpe

TEXT = [
  "It was the best of times, it was the worst of times,\nit was the age of wisdom. "
  * 9,
  "\tdef f(x):\n\t\treturn 'naïve café' + str(x)  # 42\r\n\r\n" * 9,
]
# Spaces of all kinds, marks, and characters that Python and the library may class
# differently.
ODD = "a1 \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u180e\u2003\u3000'_-.é\u0301²٣字😀"
OURS = {
  "bytes": tokenizers.byte_tokenizer(),
  "bpe": tokenizers.make("bpe-300", TEXT),
}


@pytest.fixture(params=OURS)
def tokenizer(request):
  return OURS[request.param]


WORDS = st.lists(st.sampled_from(["'s", "<|endoftext|>", "<|pad|>", " ", "ab", "\n"]))


@given(text=st.text() | st.text(ODD) | WORDS.map("".join))
@example(text="<|endoftext|>")
@example(text=" leading, trailing \n\n ")
@example(text="\x00\uffff\U0010ffff")
@pytest.mark.parametrize("name", OURS)
def test_every_string_comes_back_exactly(name, text):
  tok = OURS[name]
  ids = tok.encode(text)
  assert ids.dtype == np.int32
  assert tok.decode(ids) == text
  assert tok.decode_bytes(ids) == text.encode()
  assert tok.bytes_V[ids].sum() == len(text.encode())
  assert not {tok.bos, tok.eos, tok.pad} & set(ids.tolist())


@given(text=st.text(ODD + "ab", max_size=200) | WORDS.map("".join))
def test_encoding_by_word_is_encoding_the_text(text):
  tok = OURS["bpe"]
  assert tok._splits_words
  assert tok.encode(text).tolist() == tok._inner.encode(text).ids


@given(text=st.text(ODD + "ab", min_size=20))
def test_pieces_for_learning_are_the_text(text):
  default_chars = bpe.PIECE_CHARS
  try:
    bpe.PIECE_CHARS = 4
    pieces = bpe.pieces_of(text)
  finally:
    bpe.PIECE_CHARS = default_chars
  assert "".join(pieces) == text
  words = [word for piece in pieces for word in bpe.WORD_ENDS.split(piece)]
  assert words == bpe.WORD_ENDS.split(text)


def test_a_batch_is_its_texts(tokenizer):
  for ids, text in zip(tokenizer.encode_batch(TEXT), TEXT, strict=True):
    np.testing.assert_array_equal(ids, tokenizer.encode(text))
  assert tokenizer.encode_batch([]) == []
  assert tokenizer.encode("").shape == (0,)


def test_what_is_saved_is_what_is_loaded(tokenizer, tmp_path):
  tokenizer.save(tmp_path / "tok")
  restored = tokenizers.load(tmp_path / "tok")
  assert restored.digest == tokenizer.digest
  assert (restored.size, restored.bos, restored.eos, restored.pad) == (
    tokenizer.size,
    tokenizer.bos,
    tokenizer.eos,
    tokenizer.pad,
  )
  np.testing.assert_array_equal(restored.bytes_V, tokenizer.bytes_V)
  for text in TEXT:
    np.testing.assert_array_equal(restored.encode(text), tokenizer.encode(text))
  restored_by_file = tokenizers.load(tmp_path / "tok" / "tokenizer.json")
  assert restored_by_file.digest == tokenizer.digest


def test_ids_of_bytes_are_the_bytes():
  tok = OURS["bytes"]
  assert tok.encode("aé").tolist() == [97, 0xC3, 0xA9]
  assert (tok.size, tok.eos, tok.bos, tok.pad) == (258, 256, 256, 257)
  inner = huggingface.Tokenizer.from_str(json.dumps(tok._spec))
  assert inner.encode("aé").ids == [97, 0xC3, 0xA9]


def test_half_a_character_is_held_in_bytes():
  tok = OURS["bytes"]
  assert tok.decode_bytes(tok.encode("é")[:1]) == b"\xc3"
  assert tok.decode(tok.encode("é")[:1]) == "\ufffd"


def test_learning_is_repeatable_and_learns():
  tok = OURS["bpe"]
  assert tokenizers.make("bpe-300", TEXT).digest == tok.digest
  assert tok.size == 300
  assert len(tok.encode(TEXT[0])) < 0.7 * len(TEXT[0])


def test_specials_decode_to_nothing(tokenizer):
  ids = [tokenizer.bos, *tokenizer.encode("hi"), tokenizer.eos, tokenizer.pad]
  assert tokenizer.decode(ids) == "hi"


def test_a_lone_surrogate_is_named(tokenizer):
  with pytest.raises(ValueError, match="surrogates not allowed"):
    tokenizer.encode("a\ud800")


def test_a_large_corpus_is_sampled(monkeypatch):
  monkeypatch.setattr(bpe, "TRAIN_CHARS", 100)
  texts = [f"{i:010d}" for i in range(50)]
  assert list(bpe.sample(texts)) == texts[::5]


def test_transformers_reads_ours(tokenizer, tmp_path):
  transformers = pytest.importorskip("transformers")
  tokenizer.save(tmp_path)
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert hf_tokenizer(TEXT[1])["input_ids"] == tokenizer.encode(TEXT[1]).tolist()
  assert hf_tokenizer.eos_token_id == tokenizer.eos
  assert hf_tokenizer.decode(tokenizer.encode(TEXT[1])) == TEXT[1]


def test_a_foreign_wordpiece_gets_its_specials_by_name(tmp_path):
  vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "hel": 4, "##lo": 5}
  inner = huggingface.Tokenizer(huggingface.models.WordPiece(vocab, unk_token="[UNK]"))
  inner.pre_tokenizer = huggingface.pre_tokenizers.Whitespace()
  inner.decoder = huggingface.decoders.WordPiece()
  inner.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
  inner.enable_padding(length=9)
  inner.enable_truncation(2)
  inner.save(str(tmp_path / "tokenizer.json"))
  tok = tokenizers.load(tmp_path)
  assert (tok.bos, tok.eos, tok.pad, tok.size) == (2, 3, 0, 6)
  assert tok.encode("hello hello").tolist() == [4, 5, 4, 5]
  assert tok.decode([2, 4, 5, 3]) == "hello"
  assert tok.bytes_V is None


def test_a_config_beside_it_names_the_specials(tmp_path):
  OURS["bpe"].save(tmp_path)
  config = {"eos_token": {"content": "<|pad|>"}, "bos_token": None}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  tok = tokenizers.load(tmp_path)
  assert (tok.eos, tok.bos, tok.pad) == (OURS["bpe"].pad, None, OURS["bpe"].pad)
  assert tok.digest != OURS["bpe"].digest


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("bpe", "bytes, bpe-N"),
    ("no/such/file", "bytes, bpe-N"),
    ("bpe-100", "ask for bpe-258"),
  ],
)
def test_wrong_names_are_refused(name, message):
  with pytest.raises(ValueError, match=message):
    tokenizers.make(name, TEXT)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
    tokenizers.load(tmp_path)
  with pytest.raises(ValueError, match="no tokenizer at"):
    tokenizers.load(tmp_path / "absent")
