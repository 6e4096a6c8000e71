"""A small WordPiece tokenizer of BERT's kind, and folders of tiny BERTs with it."""

import json

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from lm.data import tokenizers

torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = dict(
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  max_position_embeddings=64,
)


def inner(words) -> Tokenizer:
  """Returns a tokenizer with these words, and all letters as pieces."""
  pieces = [chr(i) for i in range(33, 127)]
  vocab = dict.fromkeys([*SPECIAL, *words, *pieces, *(f"##{x}" for x in pieces)])
  vocab = {text: index for index, text in enumerate(vocab)}
  own = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
  own.normalizer = normalizers.BertNormalizer(lowercase=True)
  own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  ends = [(text, vocab[text]) for text in ("[SEP]", "[CLS]")]
  own.post_processor = processors.BertProcessing(*ends)
  own.add_special_tokens(SPECIAL)
  return own


def save(folder, words=()):
  """Writes the tokenizer's files into a folder and returns transformers' peer."""
  peer = transformers.BertTokenizerFast(
    tokenizer_object=inner(words), clean_up_tokenization_spaces=False
  )
  peer.save_pretrained(folder)
  return peer


def pair(folder, words=()):
  """Returns (our tokenizer, transformers' peer) of the same files."""
  peer = save(folder, words)
  return tokenizers.load(folder), peer


def model(folder, kind: str, words=(), **fields):
  """Writes a tiny random BERT of a class such as "ForQuestionAnswering"; returns it."""
  peer = save(folder, words)
  config = transformers.BertConfig(**SMALL, vocab_size=len(peer), **fields)
  torch.manual_seed(0)
  hf_model = getattr(transformers, f"Bert{kind}")(config).eval()
  with torch.no_grad():
    for parameter in hf_model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  hf_model.save_pretrained(folder)
  return hf_model


def jsonl(file, rows) -> str:
  """Writes records as a table and returns its name."""
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"
