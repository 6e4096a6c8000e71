"""Foreign tokenizers: the ids of the original libraries, for a thousand texts each."""

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


def assert_same_ids(tokenizer, encode, decode=None, texts=None, *, ties=False):
  """Fails unless `tokenizer` gives the ids of `encode` and the texts of `decode`.

  `ties` accepts the same ids in another order.
  """
  for text in texts or cases():
    actual, expected = tokenizer.encode(text).tolist(), list(encode(text))
    if ties and sorted(actual) == sorted(expected):
      expected = actual  # "0", "00" has the probability of "00", "0"
    assert actual == expected, repr(text)
    if decode is not None and tokenizer.unk not in expected:
      assert tokenizer.decode(expected) == decode(expected), repr(text)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
  """Returns a folder with vocab.json and merges.txt, the files of GPT-2."""
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
  hf_tokenizer = transformers.GPT2Tokenizer.from_pretrained(gpt2)
  tokenizer = tokenizers.load(gpt2)
  assert (
    tokenizer.size == len(hf_tokenizer)
    and tokenizer.bos == tokenizer.eos == hf_tokenizer.eos_token_id
  )
  assert_same_ids(tokenizer, hf_tokenizer.encode, hf_tokenizer.decode)
  for text in cases():
    assert tokenizer.decode(tokenizer.encode(text)) == text


def trained(tmp_path, **options):
  """Trains a SentencePiece model on the texts; returns (its processor, its path)."""
  model_file = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS.splitlines() * 3),
    model_writer=model_file,
    minloglevel=2,
    **options,
  )
  path = tmp_path / "tokenizer.model"
  path.write_bytes(model_file.getvalue())
  return sentencepiece.SentencePieceProcessor(model_proto=model_file.getvalue()), path


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
  processor, path = trained(tmp_path, **SENTENCEPIECES[kind])
  tokenizer = tokenizers.load(tmp_path)
  assert tokenizer.size == processor.get_piece_size()
  assert tokenizer.eos == processor.eos_id()
  # Text that spells a special token is text here; NUL ends a text in SentencePiece.
  texts = [t for t in cases() if not ({"<", "\0"} & set(t))]
  assert len(texts) > 900
  assert_same_ids(
    tokenizer, processor.encode, processor.decode, texts, ties=kind == "t5"
  )
  around = [processor.bos_id()] if kind != "t5" else []
  behind = [processor.eos_id()] if kind == "t5" else []
  assert tokenizer.prompt("a b").tolist() == [
    *around,
    *processor.encode("a b"),
    *behind,
  ]
  assert tokenizer.prompt("").tolist() == [*around, *behind]
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
  fields = {"do_lower_case": lower, "tokenizer_class": "BertTokenizer"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
  hf_tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
  tokenizer = tokenizers.load(tmp_path)
  assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (2, 3, 0)
  texts = [t for t in cases() if "[" not in t]
  assert_same_ids(
    tokenizer, lambda t: hf_tokenizer.encode(t, add_special_tokens=False), None, texts
  )
  for text in texts[:99]:
    assert tokenizer.prompt(text).tolist() == hf_tokenizer.encode(text)


def test_special_tokens_begin_a_prompt_once(tmp_path):
  """Checks Llama 3's rule: prompts begin with bos; text that spells bos stays text."""
  inner = Inner(models.BPE(vocab=bpe.byte_of_char() | {"<|bos|>": 256}, merges=[]))
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  inner.add_special_tokens(["<|bos|>", "<|eot|>"])
  inner.post_processor = processors.TemplateProcessing(
    single="<|bos|> $A", special_tokens=[("<|bos|>", 256)]
  )
  inner.save(str(tmp_path / "tokenizer.json"))
  fields = {"bos_token": {"content": "<|bos|>"}, "eos_token": "<|eot|>"}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
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
  restored = tokenizers.load(tmp_path / "again")
  assert (
    restored.stops == tokenizer.stops and restored.chat_template == "{{ bos_token }}"
  )


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
  """Checks the published patterns: digits one by one, by threes, or all together."""
  vocab = {c: i for i, c in enumerate(bpe.byte_of_char())}
  words_of_split = {}
  for name in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
    inner = builders.byte_level(vocab, [], *builders.SPLITS[name])
    words = inner.pre_tokenizer.pre_tokenize_str("I've 12345\n\n x")
    words_of_split[name] = [
      word.replace("Ġ", " ").replace("Ċ", "\n") for word, _ in words
    ]
  assert words_of_split == {
    "gpt-2": ["I", "'ve", " 12345", "\n\n", " x"],
    "smollm": ["I", "'ve", " ", "1", "2", "3", "4", "5", "\n\n", " x"],
    "llama-bpe": ["I", "'ve", " ", "123", "45", "\n\n", " x"],
    "qwen2": ["I", "'ve", " ", "1", "2", "3", "4", "5", "\n\n", " x"],
  }
  assert np.all([word for words in words_of_split.values() for word in words])
