"""Tokenizers in GGUF files that were written here: the same ids, ends and template."""

import unicodedata

import ggufs
import hub
import pytest
import transformers
from layouts import LAYOUTS

from lm.data import tokenizers
from lm.data.tokenizers import gguf_export

KEPT = (
  "gpt2",
  "gpt2, decoder",
  "gpt2, added_tokens.json",
  "qwen2",
  "saved qwen2",
  "llama",
  "llama, legacy",
  "llama, no space",
  "llama, eos",
  "llama, decoder and pad",
  "mistral",
  "mistral, not legacy",
  "gemma",
  "saved llama",
  "saved gemma",
)


def again(tokenizer, tmp_path, vocab=None):
  """Returns the tokenizer of a file with another's keys."""
  fields = gguf_export.fields(tokenizer, vocab or tokenizer.size)
  return tokenizers.load(ggufs.write(tmp_path / "a.gguf", {}, **fields))


@pytest.mark.parametrize("layout", KEPT)
def test_ids_stay(layout, tmp_path):
  before = tokenizers.load(hub.write(tmp_path, LAYOUTS[layout]()))
  after = again(before, tmp_path)
  assert (after.size, after.eos) == (before.size, before.eos)
  assert after.bos == before.bos or before.bos is None  # a file cannot say None
  assert after.stops == before.stops and after.chat_template == before.chat_template
  assert set(after.special) == set(before.special)
  texts = [t for t in hub.strings() if unicodedata.is_normalized("NFC", t)]
  if not before.byte_level:  # an added token has a space behind it in llama.cpp
    texts = [t for t in texts if not any(word in t for word in before.added)]
    if "Metaspace" in str(before.files[0]["pre_tokenizer"]):
      texts = [t for t in texts if t[:1] not in (" ", "\u2581")]
  assert len(texts) > 30
  for text in texts:
    ids = before.prompt(text).tolist()
    assert after.prompt(text).tolist() == ids, repr(text)
    assert after.decode(ids) == before.decode(ids)


@pytest.mark.parametrize("name", ("bytes", "bpe-300"))
def test_learnt_ones_stay(name, tmp_path):
  before = tokenizers.make(name, ["the cat sat on the mat"] * 9)
  after = again(before, tmp_path, vocab=before.size + 3)
  filler = after.text_of_id(before.size)
  assert after.size == before.size + 3 and filler == f"[PAD{before.size}]"
  for text in hub.strings():
    ids = before.encode(text).tolist()
    assert after.encode(text).tolist() == ids and after.decode(ids) == text
  if name != "bytes":  # without merges llama.cpp needs an empty one, which fails there
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    assert peer.encode("the cat") == before.encode("the cat").tolist()


def test_no_tokenizer_is_none(tmp_path):
  path = ggufs.write(tmp_path / "a.gguf", {}, **gguf_export.fields(None, 9))
  with pytest.raises(ValueError, match="no tokenizer at"):
    tokenizers.load(path)


@pytest.mark.parametrize(
  "layout, message",
  [
    ("bert", "is a WordPiece model"),
    ("t5", "is a Unigram model"),
    ("gpt2, prefix space", "splits words in another way than gpt-2, olmo"),
    ("mistral, user's pieces", "splits texts before it merges"),
  ],
)
def test_what_no_file_has_is_refused(layout, message, tmp_path):
  tokenizer = tokenizers.load(hub.write(tmp_path, LAYOUTS[layout]()))
  with pytest.raises(ValueError, match=message) as error:
    gguf_export.fields(tokenizer, tokenizer.size)
  assert "\n" not in str(error.value)
