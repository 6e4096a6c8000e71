"""Tokenizers of others: a thousand pieces of text each, the ids of the originals."""

import io
import json

import numpy as np
import pytest
import sentencepiece
import transformers
from texts import TEXTS, cases
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from lm.data import tokenizers
from lm.data.tokenizers import bpe, builders, files


def same(ours, encode, decode=None, texts=None, *, ties=False):
  """Fails unless ids, and texts of ids, are those of the functions."""
  for text in texts or cases():
    got, wanted = ours.encode(text).tolist(), list(encode(text))
    if ties and sorted(got) == sorted(wanted):
      wanted = got  # 0 and 00 are as likely as 00 and 0
    assert got == wanted, repr(text)
    if decode is not None and ours.unk not in wanted:
      assert ours.decode(wanted) == decode(wanted), repr(text)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
  """A folder with vocab.json and merges.txt, as GPT-2 has them."""
  folder = tmp_path_factory.mktemp("gpt2")
  inner = Inner(models.BPE())
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  special = ["<|endoftext|>"]
  trainer = trainers.BpeTrainer(
    vocab_size=700,
    special_tokens=special,
    initial_alphabet=sorted(alphabet),
    show_progress=False,
  )
  inner.train_from_iterator([TEXTS], trainer)
  inner.model.save(str(folder))
  return folder


def test_gpt2_of_vocabulary_and_merges(gpt2):
  theirs = transformers.GPT2Tokenizer.from_pretrained(gpt2)
  ours = tokenizers.load(gpt2)
  assert ours.size == len(theirs) and ours.bos == ours.eos == theirs.eos_token_id
  same(ours, theirs.encode, theirs.decode)
  for text in cases():
    assert ours.decode(ours.encode(text)) == text


def trained(tmp_path, **options):
  """(their tokenizer, ours) of a SentencePiece model made from the texts."""
  made = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS.splitlines() * 3),
    model_writer=made,
    minloglevel=2,
    **options,
  )
  path = tmp_path / "tokenizer.model"
  path.write_bytes(made.getvalue())
  return sentencepiece.SentencePieceProcessor(model_proto=made.getvalue()), path


SENTENCEPIECES = {
  "llama": dict(
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    character_coverage=0.98,
  ),
  "gemma": dict(
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    add_dummy_prefix=False,
    user_defined_symbols=["<turn>"],
  ),
  "t5": dict(
    model_type="unigram",
    vocab_size=360,
    bos_id=-1,
    pad_id=0,
    eos_id=1,
    unk_id=2,
  ),
}


@pytest.mark.parametrize("kind", SENTENCEPIECES)
def test_sentencepiece(kind, tmp_path):
  theirs, path = trained(tmp_path, **SENTENCEPIECES[kind])
  ours = tokenizers.load(tmp_path)
  assert ours.size == theirs.get_piece_size()
  assert ours.eos == theirs.eos_id()
  # In a text of ours, what looks special is text; NUL ends it in theirs.
  texts = [t for t in cases() if not ({"<", "\0"} & set(t))]
  assert len(texts) > 900
  same(ours, theirs.encode, theirs.decode, texts, ties=kind == "t5")
  around = [theirs.bos_id()] if kind != "t5" else []
  behind = [theirs.eos_id()] if kind == "t5" else []
  assert ours.prompt("a b").tolist() == [*around, *theirs.encode("a b"), *behind]
  assert ours.prompt("").tolist() == [*around, *behind]
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="is no SentencePiece model"):
    tokenizers.load(tmp_path)


@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces(lower, tmp_path):
  inner = Inner(models.WordPiece(unk_token="[UNK]"))
  inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  trainer = trainers.WordPieceTrainer(
    vocab_size=500, special_tokens=special, show_progress=False
  )
  inner.train_from_iterator([TEXTS, TEXTS.lower()], trainer)
  inner.model.save(str(tmp_path))
  told = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
  theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
  ours = tokenizers.load(tmp_path)
  assert (ours.bos, ours.eos, ours.pad) == (2, 3, 0)
  texts = [t for t in cases() if "[" not in t]
  same(ours, lambda t: theirs.encode(t, add_special_tokens=False), None, texts)
  for text in texts[:99]:
    assert ours.prompt(text).tolist() == theirs.encode(text)


def test_special_tokens_begin_a_prompt_once(tmp_path):
  """Llama 3: bos comes with the prompt; that a text spells it does not make it one."""
  inner = Inner(models.BPE(vocab=bpe.byte_of_char() | {"<|bos|>": 256}, merges=[]))
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  inner.add_special_tokens(["<|bos|>", "<|eot|>"])
  inner.post_processor = processors.TemplateProcessing(
    single="<|bos|> $A", special_tokens=[("<|bos|>", 256)]
  )
  inner.save(str(tmp_path / "tokenizer.json"))
  told = {"bos_token": {"content": "<|bos|>"}, "eos_token": "<|eot|>"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
  (tmp_path / "generation_config.json").write_text('{"eos_token_id": [257, 0]}')
  (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}")
  tokenizer = tokenizers.load(tmp_path)
  assert tokenizer.prompt("a").tolist() == [256, 97]
  assert tokenizer.encode("a").tolist() == [97]
  assert tokenizer.prompt("<|bos|>").tolist() == [256, *b"<|bos|>"]
  assert tokenizer.marked("<|bos|>a").tolist() == [256, 97]
  assert tokenizer.stops == {257, 0}
  assert tokenizer.chat_template == "{{ bos_token }}"
  assert tokenizer.special_tokens == {"bos_token": "<|bos|>", "eos_token": "<|eot|>"}
  tokenizer.save(tmp_path / "again")
  again = tokenizers.load(tmp_path / "again")
  assert again.stops == tokenizer.stops and again.chat_template == "{{ bos_token }}"


def test_folders_without_a_tokenizer(tmp_path):
  assert files.find(tmp_path) is None and files.find(tmp_path / "none") is None
  with pytest.raises(ValueError, match="no tokenizer at"):
    tokenizers.load(tmp_path)
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
    tokenizers.load(tmp_path)
  (tmp_path / "tokenizer.json").write_bytes(b'{"version": "\xff"}')
  with pytest.raises(ValueError, match=r"tokenizer\.json is not UTF-8"):
    tokenizers.load(tmp_path)
  (tmp_path / "tokenizer_config.json").write_text("[1]")
  with pytest.raises(ValueError, match=r"tokenizer_config\.json is no JSON object"):
    tokenizers.load(tmp_path)


def test_the_splits_of_words():
  """Digits one by one, by threes, or all; the patterns are those published."""
  vocab = {c: i for i, c in enumerate(bpe.byte_of_char())}
  found = {}
  for name in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
    inner = builders.byte_level(vocab, [], *builders.SPLITS[name])
    words = inner.pre_tokenizer.pre_tokenize_str("I've 12345\n\n x")
    found[name] = [word.replace("Ġ", " ").replace("Ċ", "\n") for word, _ in words]
  assert found == {
    "gpt-2": ["I", "'ve", " 12345", "\n\n", " x"],
    "smollm": ["I", "'ve", " ", "1", "2", "3", "4", "5", "\n\n", " x"],
    "llama-bpe": ["I", "'ve", " ", "123", "45", "\n\n", " x"],
    "qwen2": ["I", "'ve", " ", "1", "2", "3", "4", "5", "\n\n", " x"],
  }
  assert np.all([word for words in found.values() for word in words])
