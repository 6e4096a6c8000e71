"""SentencePiece's pieces with the ids of a vocab.json: Marian and M2M-100.

Marian splits its sources by source.spm; vocab.json has the pieces of both languages. A
piece of the other language never comes from a text, unless it is a single character:
its entry has HIDDEN before it, which decoding takes away. Two differences remain from
transformers, which has <unk> for a piece that vocab.json lacks, where it is split into
smaller ones here; and for several such characters in a row.
"""

import json
from pathlib import Path

from lm.data.tokenizers import added, builders, files, languages, sentencepiece
from lm.data.tokenizers.sentencepiece import NORMAL, UNIGRAM, UNKNOWN, UNUSED, USER
from lm.data.tokenizers.tokenizer import token_text
from lm.errors import Mistake

CLASSES = ("MarianTokenizer", "M2M100Tokenizer")
HIDDEN = "\U000f0000"  # for private use, in no piece
TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def read(file: Path, config: dict, name: str):
  """(`tokenizers` object, config) of a SentencePiece file of a class of CLASSES.

  Raises Mistake for a damaged file, one without vocab.json beside it, and two
  vocabularies.
  """
  config = TOKENS | ({"bos_token": "<s>"} if name == CLASSES[1] else {}) | config
  vocab = files.read_json(file.with_name("vocab.json"))
  unknown = token_text(config["unk_token"])
  if unknown not in vocab:
    raise Mistake(
      f"{file} has no vocab.json with {unknown!r} beside it, which gives pieces ids"
    )
  if config.get("separate_vocabs"):
    raise Mistake(
      f"{file.parent} has a vocabulary for each of two languages (separate_vocabs); "
      "wanted one of both"
    )
  model, _ = sentencepiece.read(file)
  special = {token_text(config[role]) for role in config if role.endswith("_token")}
  model, codes = _numbered(model, vocab, unknown, special)
  inner = builders.pieces(**model)
  inner = _shown(inner) if model["model"] == UNIGRAM else inner
  added.add(inner, config, file.parent)
  builders.add(inner, dict.fromkeys(codes, USER))
  begin = languages.of_name(config.get("src_lang") or "en")
  builders.between(inner, [begin] if name == CLASSES[1] else [], ["</s>"])
  return inner, config


def _numbered(model: dict, vocab: dict, unknown: str, special: set):
  """(`model` with its pieces in the order of vocab.json, the codes of languages)."""
  pieces = zip(model["texts"], model["scores"], model["kinds"], strict=True)
  own = {text: (score, kind) for text, score, kind in pieces}
  text_of = {id: text for text, id in vocab.items()}
  codes = [text for text in vocab if text.startswith(">>") and text.endswith("<<")]
  unseen = min(score for score, _ in own.values()) - 10  # as unlikely as <unk>
  texts, scores, kinds = [], [], []
  for id in range(max(text_of) + 1):
    text = text_of.get(id, f"{HIDDEN}{id}")
    score, kind = own.get(text, (0.0, UNUSED))
    if text == unknown:
      kind = UNKNOWN
    elif text not in special and text not in codes and kind not in (NORMAL, USER):
      kind, score = UNUSED, unseen
      text = text if len(text) == 1 else HIDDEN + text.removeprefix(HIDDEN)
    texts.append(text)
    scores.append(score)
    kinds.append(kind)
  return model | dict(texts=texts, scores=scores, kinds=kinds), codes


def _shown(inner):
  """`inner`, decoding without HIDDEN."""
  spec = json.loads(inner.to_str())
  step = {"type": "Replace", "pattern": {"String": HIDDEN}, "content": ""}
  spec["decoder"]["decoders"].insert(0, step)
  return type(inner).from_str(json.dumps(spec))
